//! How fast is fast enough: what the static binary of a release has to keep to, beside the floor and beside the
//! reference plugins as Debian ships them.
//!
//! They are what is aimed at, not what a build happens to reach: a target that is missed stays.

use crate::figures::{Figures, Measure};

/// One promise about one case.
#[derive(Debug)]
pub struct Target {
    /// The name of the case.
    pub case: &'static str,
    /// Which figure.
    pub measure: Measure,
    /// Beside what, and how far.
    pub limit: Limit,
}

/// How a figure of ours has to stand beside that of another.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// At most so many times the floor.
    OfFloor(f64),
    /// At least so many times less than the other.
    LessThanOther(f64),
}

/// The promises.
pub static TARGETS: [Target; 6] = [
    Target { case: "version", measure: Measure::Median, limit: Limit::OfFloor(1.3) },
    Target { case: "version", measure: Measure::Median, limit: Limit::LessThanOther(4.0) },
    Target { case: "version", measure: Measure::Memory, limit: Limit::LessThanOther(4.0) },
    Target { case: "loopback-add", measure: Measure::Median, limit: Limit::OfFloor(1.3) },
    Target { case: "loopback-add", measure: Measure::Median, limit: Limit::LessThanOther(4.5) },
    Target { case: "loopback-add", measure: Measure::Memory, limit: Limit::LessThanOther(4.0) },
];

/// A promise, and what became of it.
#[derive(Debug)]
pub struct Verdict {
    /// `version, time, median: at most 1.3× the floor`
    pub promise: String,
    /// The ratio that was measured.
    pub seen: f64,
    /// Whether it was kept.
    pub met: bool,
}

/// Holds the figures of a case (the floor's, ours, the other's) against all targets for it.
pub fn judge(case: &str, [floor, ours, other]: &[Figures; 3]) -> Vec<Verdict> {
    let of_case = TARGETS.iter().filter(|target| target.case == case);
    let verdict = |target: &Target| {
        let figure = |of: &Figures| target.measure.of(of);
        let (seen, met, words) = match target.limit {
            Limit::OfFloor(limit) => {
                let seen = figure(ours) / figure(floor);
                (seen, seen <= limit, format!("at most {limit}× the floor"))
            }
            Limit::LessThanOther(limit) => {
                let seen = figure(other) / figure(ours);
                (seen, seen >= limit, format!("at least {limit}× less than the other"))
            }
        };
        let promise = format!("{} {}: {words}", target.case, target.measure.name());
        Verdict { promise, seen, met }
    };
    of_case.map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::CASES;
    use crate::figures::tests::constant;

    fn met(floor: u64, ours: (u64, u64), other: (u64, u64)) -> Vec<bool> {
        let figures = [constant(floor, 1), constant(ours.0, ours.1), constant(other.0, other.1)];
        judge("version", &figures).iter().map(|verdict| verdict.met).collect()
    }

    #[test]
    fn a_target_is_met_at_its_very_limit() {
        assert_eq!(met(100, (130, 25), (520, 100)), [true; 3]);
    }

    #[test]
    fn a_target_is_missed_beyond_it() {
        assert_eq!(met(100, (131, 25), (530, 100)), [false, true, true]);
        assert_eq!(met(100, (130, 25), (519, 100)), [true, false, true]);
        assert_eq!(met(100, (130, 26), (520, 100)), [true, true, false]);
    }

    #[test]
    fn every_target_is_about_a_case_that_exists() {
        for target in &TARGETS {
            assert!(CASES.iter().any(|case| case.name == target.case), "{target:?}");
        }
    }
}
