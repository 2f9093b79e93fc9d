//! A whole case: round after round each subject once, in changing order, so that what else the machine does, and what
//! one call leaves in the caches for the next, falls on all alike.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};

use crate::Result;
use crate::case::{Case, Subject};
use crate::figures::Figures;
use crate::sandbox::Container;
use crate::stats::Sorted;
use crate::trace::{Footprint, watched};

/// Every order of three, one after the other.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1], [2, 0, 1], [1, 0, 2]];

/// How often a call is watched for what it needs besides time, which hardly varies.
const WATCHED: usize = 5;

/// Measures the floor, ours and the other, in this order, each `runs` times after a warm-up.
pub fn measure(
    case: &Case,
    subjects: &[Subject; 3],
    container: &Container,
    runs: usize,
) -> Result<[Figures; 3]> {
    for subject in subjects {
        case.before.iter().chain([&case.timed]).try_for_each(|step| read_anew(&subject.program(step)))?;
    }
    let warm_up = (runs / 10).clamp(1, 20);
    let mut samples: [Samples; 3] = Default::default();
    for (round, order) in (0..warm_up + runs).zip(ORDERS.iter().cycle()) {
        for &index in order {
            let subject = &subjects[index];
            let answer = subject.prepare(case, container)?.timed()?;
            subject.verify(case, container, &answer.reply)?;
            if round >= warm_up {
                samples[index].elapsed.push(answer.elapsed);
                samples[index].cpu.push(answer.cpu);
            }
        }
    }
    let [floor, ours, other] = samples;
    let [on_the_floor, us, them] = subjects;
    Ok([
        floor.figures(footprint(case, on_the_floor, container)?)?,
        ours.figures(footprint(case, us, container)?)?,
        other.figures(footprint(case, them, container)?)?,
    ])
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
}

impl Samples {
    fn figures(self, footprint: Footprint) -> Result<Figures> {
        let elapsed = Sorted::new(self.elapsed).ok_or("nothing was measured")?;
        let cpu = Sorted::new(self.cpu).ok_or("nothing was measured")?;
        Ok(Figures { elapsed, cpu, footprint })
    }
}

fn footprint(case: &Case, subject: &Subject, container: &Container) -> Result<Footprint> {
    let mut seen = Vec::with_capacity(WATCHED);
    for _ in 0..WATCHED {
        seen.push(watched(&subject.prepare(case, container)?)?);
    }
    seen.sort_unstable_by_key(|footprint| footprint.memory);
    Ok(seen[WATCHED / 2])
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
