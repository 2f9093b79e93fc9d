//! A whole case: round after round each subject once, in changing order, so that what else the machine does, and what
//! one call leaves in the caches for the next, falls on all alike.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};

use crate::Result;
use crate::case::{Case, Scene, Subject};
use crate::figures::Figures;
use crate::sandbox::Sandbox;
use crate::stage::{Sample, Stage};
use crate::stats::Sorted;
use crate::trace::Footprint;

/// Every order of three, one after the other.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1], [2, 0, 1], [1, 0, 2]];

/// How often a call is watched for what it needs besides time, which hardly varies.
const WATCHED: usize = 5;

/// Measures the `cases` of one group, each with the floor, ours and the other, in this order, `runs` times after a
/// warm-up. Returns the figures of each case.
///
/// # Errors
///
/// If a call fails.
pub fn measure(
    cases: &[&'static Case],
    subjects: &[Subject; 3],
    sandbox: &Sandbox,
    runs: usize,
) -> Result<Vec<[Figures; 3]>> {
    for (case, subject) in cases.iter().flat_map(|case| subjects.iter().map(move |subject| (case, subject))) {
        case.before.iter().chain([&case.timed]).try_for_each(|step| read_anew(&subject.program(step)))?;
    }
    let mut stages = Stages::set(cases, subjects, sandbox)?;
    let rounds = cases.first().map_or(runs, |case| case.group.rounds(runs));
    let warm_up = (rounds / 10).clamp(1, 20);
    let mut samples: Vec<[Samples; 3]> = cases.iter().map(|_| Default::default()).collect();
    for (round, order) in (0..warm_up + rounds).zip(ORDERS.iter().cycle()) {
        for (case, samples) in cases.iter().zip(&mut samples) {
            for &index in order {
                let sample = stages.of(case)[index].time(case)?;
                if round >= warm_up {
                    samples[index].take(sample);
                }
            }
        }
    }
    stages.0.iter_mut().flat_map(|(_, stages)| stages).for_each(Stage::dismiss);
    let mut results = Vec::new();
    for (case, [floor, ours, other]) in cases.iter().zip(samples) {
        let [on_the_floor, us, them] = stages.of(case);
        results.push([
            floor.figures(footprint(case, on_the_floor)?)?,
            ours.figures(footprint(case, us)?)?,
            other.figures(footprint(case, them)?)?,
        ]);
    }
    Ok(results)
}

/// A host of its own for each scene and subject. They stay until the end of the group, for the kernel takes a namespace
/// apart in the background.
struct Stages<'a>(Vec<(Scene, [Stage<'a>; 3])>);

impl<'a> Stages<'a> {
    fn set(cases: &[&Case], subjects: &'a [Subject; 3], sandbox: &Sandbox) -> Result<Stages<'a>> {
        let mut stages: Vec<(Scene, [Stage<'a>; 3])> = Vec::new();
        for case in cases {
            if stages.iter().any(|(scene, _)| *scene == case.scene) {
                continue;
            }
            let here: Vec<_> = cases.iter().copied().filter(|other| other.scene == case.scene).collect();
            let [floor, ours, other] = subjects;
            let set = |subject: &'a Subject| {
                let name = format!("{}-{}", case.name, subject.name());
                Stage::set(subject, &here, sandbox, &name)
            };
            stages.push((case.scene, [set(floor)?, set(ours)?, set(other)?]));
        }
        Ok(Stages(stages))
    }

    #[expect(clippy::expect_used, reason = "a stage is set for the scene of every case")]
    fn of(&mut self, case: &Case) -> &mut [Stage<'a>; 3] {
        let found = self.0.iter_mut().find(|(scene, _)| *scene == case.scene);
        found.map(|(_, stages)| stages).expect("no stage is set for this case")
    }
}

/// Has the kernel forget what it holds of a file, so that the first call in the warm-up reads it from disk.
///
/// A file that has just been built lies in memory in larger pieces than one that was read, and starts a tenth faster; on
/// a node no plugin has just been built.
fn read_anew(program: &Path) -> Result<()> {
    let forget = || {
        let file = File::open(program)?;
        // Only what is on disk can be forgotten.
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed).map_err(io::Error::from)
    };
    forget().map_err(|err| format!("read {} anew: {err}", program.display()).into())
}

#[derive(Default)]
struct Samples {
    elapsed: Vec<Duration>,
    cpu: Vec<Duration>,
    each: Vec<Duration>,
}

impl Samples {
    fn take(&mut self, sample: Sample) {
        self.elapsed.push(sample.elapsed);
        self.cpu.push(sample.cpu);
        self.each.extend(sample.each);
    }

    fn figures(self, footprint: Option<Footprint>) -> Result<Figures> {
        let elapsed = Sorted::new(self.elapsed).ok_or("nothing was measured")?;
        let cpu = Sorted::new(self.cpu).ok_or("nothing was measured")?;
        Ok(Figures { elapsed, cpu, each: Sorted::new(self.each), footprint })
    }
}

fn footprint(case: &Case, stage: &mut Stage<'_>) -> Result<Option<Footprint>> {
    let mut seen = Vec::with_capacity(WATCHED);
    for _ in 0..WATCHED {
        let Some(footprint) = stage.watch(case)? else { return Ok(None) };
        seen.push(footprint);
    }
    seen.sort_unstable_by_key(|footprint| footprint.memory);
    Ok(Some(seen[WATCHED / 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_subject_stands_in_each_place_equally_often() {
        for place in 0..3 {
            for subject in 0..3 {
                let times = ORDERS.iter().filter(|order| order[place] == subject).count();
                assert_eq!(times, 2, "subject {subject} in place {place}");
            }
        }
    }

    #[test]
    fn each_order_takes_its_turn() {
        let mut orders = ORDERS.to_vec();
        orders.sort_unstable();
        orders.dedup();
        assert_eq!(orders.len(), ORDERS.len());
    }
}
