//! How fast is fast enough: what the static binary of a release has to keep to, beside the floor and beside the
//! reference plugins as Debian ships them.
//!
//! They are what is aimed at, not what a build happens to reach: a target that is missed stays.

use crate::figures::{Figures, Measure};
use crate::report::Results;

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
    /// At most so many times ours in another case, of the same group and hence in the same stretch of time: what must
    /// not grow.
    OfCase(&'static str, f64),
}

const fn target(case: &'static str, measure: Measure, limit: Limit) -> Target {
    Target { case, measure, limit }
}

/// The promises.
pub static TARGETS: [Target; 29] = [
    target("version", Measure::Median, Limit::OfFloor(1.3)),
    target("version", Measure::Median, Limit::LessThanOther(4.0)),
    target("version", Measure::Memory, Limit::LessThanOther(4.0)),
    target("loopback-add", Measure::Median, Limit::OfFloor(1.3)),
    target("loopback-add", Measure::Median, Limit::LessThanOther(4.5)),
    target("loopback-add", Measure::Memory, Limit::LessThanOther(4.0)),
    target("bridge-add", Measure::Median, Limit::OfFloor(1.6)),
    target("bridge-add", Measure::Median, Limit::LessThanOther(8.0)),
    target("bridge-add", Measure::Cpu, Limit::LessThanOther(10.0)),
    target("bridge-add", Measure::Memory, Limit::LessThanOther(4.0)),
    target("bridge-check", Measure::Median, Limit::LessThanOther(8.0)),
    target("bridge-del", Measure::Median, Limit::OfFloor(1.15)),
    target("bridge-del", Measure::Cpu, Limit::LessThanOther(10.0)),
    target("bridge-del", Measure::Memory, Limit::LessThanOther(4.0)),
    target("embedded-add", Measure::Median, Limit::OfFloor(1.2)),
    target("embedded-del", Measure::Median, Limit::OfFloor(1.2)),
    target("masquerade-add", Measure::Median, Limit::LessThanOther(12.0)),
    target("masquerade-add", Measure::Cpu, Limit::LessThanOther(10.0)),
    target("masquerade-add", Measure::Memory, Limit::LessThanOther(4.0)),
    target("masquerade-check", Measure::Median, Limit::LessThanOther(8.0)),
    target("masquerade-del", Measure::Median, Limit::OfFloor(1.3)),
    target("masquerade-del", Measure::Cpu, Limit::LessThanOther(10.0)),
    target("masquerade-del", Measure::Memory, Limit::LessThanOther(4.0)),
    target("crowd-add", Measure::Median, Limit::OfCase("masquerade-add", 1.2)),
    target("crowd-del", Measure::Median, Limit::OfCase("masquerade-del", 1.2)),
    target("host-local-60000-add", Measure::Median, Limit::OfCase("host-local-10-add", 1.2)),
    target("host-local-60000-check", Measure::Median, Limit::OfCase("host-local-10-check", 1.2)),
    target("host-local-60000-del", Measure::Median, Limit::OfCase("host-local-10-del", 1.2)),
    target("gc-100", Measure::Median, Limit::LessThanOther(20.0)),
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

/// Holds what was measured against all targets that it allows to judge.
pub fn judge(results: &Results) -> Vec<Verdict> {
    TARGETS.iter().filter_map(|target| verdict(target, results)).collect()
}

fn verdict(target: &Target, results: &Results) -> Option<Verdict> {
    let find = |name| results.iter().find(|(case, _)| case.name == name).map(|(_, figures)| figures);
    let [floor, ours, other] = find(target.case)?;
    let figure = |of: &Figures| target.measure.of(of);
    let (seen, met, words) = match target.limit {
        Limit::OfFloor(limit) => {
            let seen = figure(ours)? / figure(floor)?;
            (seen, seen <= limit, format!("at most {limit}× the floor"))
        }
        Limit::LessThanOther(limit) => {
            let seen = figure(other)? / figure(ours)?;
            (seen, seen >= limit, format!("at least {limit}× less than the other"))
        }
        Limit::OfCase(base, limit) => {
            let [_, before, _] = find(base)?;
            let seen = figure(ours)? / figure(before)?;
            (seen, seen <= limit, format!("at most {limit}× that of {base}"))
        }
    };
    let promise = format!("{} {}: {words}", target.case, target.measure.name());
    Some(Verdict { promise, seen, met })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::CASES;
    use crate::figures::tests::constant;

    fn result(name: &str, figures: [Figures; 3]) -> Results {
        vec![(CASES.iter().find(|case| case.name == name).unwrap(), figures)]
    }

    fn met(results: &Results) -> Vec<bool> {
        judge(results).iter().map(|verdict| verdict.met).collect()
    }

    fn version(floor: u64, ours: (u64, u64), other: (u64, u64)) -> Vec<bool> {
        let figures = [constant(floor, 1), constant(ours.0, ours.1), constant(other.0, other.1)];
        met(&result("version", figures))
    }

    #[test]
    fn a_target_is_met_at_its_very_limit() {
        assert_eq!(version(100, (130, 25), (520, 100)), [true; 3]);
    }

    #[test]
    fn a_target_is_missed_beyond_it() {
        assert_eq!(version(100, (131, 25), (530, 100)), [false, true, true]);
        assert_eq!(version(100, (130, 25), (519, 100)), [true, false, true]);
        assert_eq!(version(100, (130, 26), (520, 100)), [true, true, false]);
    }

    #[test]
    fn what_must_not_grow_is_held_against_ours_and_not_judged_without_it() {
        let at = |name, ours| result(name, [constant(1, 1), constant(ours, 1), constant(1, 1)]);
        let crowded = |micros| at("crowd-add", micros);
        assert!(judge(&crowded(100)).is_empty());
        let of_crowd = |results: Results| {
            let all = judge(&results);
            all.iter().find(|verdict| verdict.promise.starts_with("crowd-add")).unwrap().met
        };
        let both = |micros| crowded(micros).into_iter().chain(at("masquerade-add", 100)).collect();
        assert!(of_crowd(both(120)));
        assert!(!of_crowd(both(121)));
    }

    #[test]
    fn every_target_is_about_cases_that_exist_and_are_measured_together() {
        let find = |name: &str| CASES.iter().find(|case| case.name == name).unwrap();
        for target in &TARGETS {
            let case = find(target.case);
            if let Limit::OfCase(other, _) = target.limit {
                assert_eq!(find(other).group, case.group, "{target:?}");
            }
        }
    }
}
