//! What is known of a subject in the end, and how each figure is written for people.

use std::time::Duration;

use crate::stats::Sorted;
use crate::trace::Footprint;

/// Everything that was measured of one subject in one case.
#[derive(Debug)]
pub struct Figures {
    /// Wall-clock times of all runs.
    pub elapsed: Sorted<Duration>,
    /// CPU times of all runs.
    pub cpu: Sorted<Duration>,
    /// Of the run with the median peak memory.
    pub footprint: Footprint,
}

/// One kind of figure: a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The quickest call: what is left when nothing else disturbs.
    Best,
    /// Half of the calls took no longer.
    Median,
    /// 95 of 100 calls took no longer.
    P95,
    /// User and system time, the median.
    Cpu,
    /// Peak resident memory of the largest process.
    Memory,
    /// Resident memory in the end that it shares with nobody.
    Private,
    /// Processes started.
    Processes,
    /// Threads started beyond the first.
    Threads,
}

impl Measure {
    /// In the order of the table.
    pub const ALL: [Measure; 8] = [
        Measure::Best,
        Measure::Median,
        Measure::P95,
        Measure::Cpu,
        Measure::Memory,
        Measure::Private,
        Measure::Processes,
        Measure::Threads,
    ];

    /// As in the table.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Best => "time, best",
            Measure::Median => "time, median",
            Measure::P95 => "time, p95",
            Measure::Cpu => "CPU time",
            Measure::Memory => "peak memory",
            Measure::Private => "private memory",
            Measure::Processes => "processes",
            Measure::Threads => "further threads",
        }
    }

    /// The figure itself: microseconds, bytes, or a number.
    pub fn of(self, figures: &Figures) -> f64 {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        match self {
            Measure::Best => micros(figures.elapsed.percentile(0)),
            Measure::Median => micros(figures.elapsed.median()),
            Measure::P95 => micros(figures.elapsed.percentile(95)),
            Measure::Cpu => micros(figures.cpu.median()),
            Measure::Memory => figures.footprint.memory as f64,
            Measure::Private => figures.footprint.private as f64,
            Measure::Processes => figures.footprint.processes as f64,
            Measure::Threads => figures.footprint.threads as f64,
        }
    }

    /// The figure with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Measure::Best | Measure::Median | Measure::P95 | Measure::Cpu => time(value),
            Measure::Memory | Measure::Private => bytes(value),
            Measure::Processes | Measure::Threads => format!("{value:.0}"),
        }
    }
}

/// Microseconds, as such or in milliseconds.
fn time(micros: f64) -> String {
    if micros < 9_999.5 { format!("{micros:.0} µs") } else { format!("{:.1} ms", micros / 1e3) }
}

/// Bytes in KiB or MiB.
pub(crate) fn bytes(bytes: f64) -> String {
    let kibibytes = bytes / 1024.0;
    if kibibytes < 1023.5 { format!("{kibibytes:.0} KiB") } else { format!("{:.1} MiB", kibibytes / 1024.0) }
}

/// How many times `one` is the `other`, with two digits that count. None against nothing, which is no measure.
pub(crate) fn times(one: f64, other: f64) -> Option<String> {
    let ratio = (other > 0.0).then(|| one / other)?;
    Some(if ratio < 9.995 { format!("{ratio:.2}×") } else { format!("{ratio:.1}×") })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Figures in which all times are `micros`.
    pub(crate) fn constant(micros: u64, memory: u64) -> Figures {
        let times = || Sorted::new(vec![Duration::from_micros(micros); 3]).unwrap();
        Figures {
            elapsed: times(),
            cpu: times(),
            footprint: Footprint { memory, private: memory, processes: 1, threads: 0 },
        }
    }

    #[test]
    fn figures_are_written_in_the_unit_that_fits() {
        assert_eq!(Measure::Median.show(372.4), "372 µs");
        assert_eq!(Measure::P95.show(9_999.0), "9999 µs");
        assert_eq!(Measure::Cpu.show(12_345.0), "12.3 ms");
        assert_eq!(Measure::Memory.show(512.0 * 1024.0), "512 KiB");
        assert_eq!(Measure::Memory.show(4.25 * 1024.0 * 1024.0), "4.2 MiB");
        assert_eq!(Measure::Threads.show(6.0), "6");
    }

    #[test]
    fn ratios_have_a_few_digits() {
        assert_eq!(times(450.0, 400.0).unwrap(), "1.12×");
        assert_eq!(times(2_000.0, 100.0).unwrap(), "20.0×");
        assert_eq!(times(6.0, 0.0), None);
    }

    #[test]
    fn every_measure_reads_its_own_figure() {
        let figures = Figures {
            elapsed: Sorted::new((1..=100).map(Duration::from_micros).collect()).unwrap(),
            cpu: Sorted::new(vec![Duration::from_micros(7)]).unwrap(),
            footprint: Footprint { memory: 4096, private: 1024, processes: 2, threads: 5 },
        };
        let seen = Measure::ALL.map(|measure| measure.of(&figures).round());
        assert_eq!(seen, [1.0, 50.0, 95.0, 7.0, 4096.0, 1024.0, 2.0, 5.0]);
    }
}
