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
    /// Where calls were made at once: the wall-clock time of each.
    pub each: Option<Sorted<Duration>>,
    /// Where a run is one process: of the run with the median peak memory.
    pub footprint: Option<Footprint>,
}

/// One kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The quickest run: what is left when nothing else disturbs.
    Best,
    /// Half of the runs took no longer.
    Median,
    /// 95 of 100 runs took no longer.
    P95,
    /// Of calls at once, half took no longer.
    EachMedian,
    /// Of calls at once, 99 of 100 took no longer.
    EachP99,
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
    /// As in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Best => "time, best",
            Measure::Median => "time, median",
            Measure::P95 => "time, p95",
            Measure::EachMedian => "each, median",
            Measure::EachP99 => "each, p99",
            Measure::Cpu => "CPU time",
            Measure::Memory => "peak memory",
            Measure::Private => "private memory",
            Measure::Processes => "processes",
            Measure::Threads => "further threads",
        }
    }

    /// The figure itself, if there is one: microseconds, bytes, or a number.
    pub fn of(self, figures: &Figures) -> Option<f64> {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let footprint = figures.footprint;
        Some(match self {
            Measure::Best => micros(figures.elapsed.percentile(0)),
            Measure::Median => micros(figures.elapsed.median()),
            Measure::P95 => micros(figures.elapsed.percentile(95)),
            Measure::EachMedian => micros(figures.each.as_ref()?.median()),
            Measure::EachP99 => micros(figures.each.as_ref()?.percentile(99)),
            Measure::Cpu => micros(figures.cpu.median()),
            Measure::Memory => footprint?.memory as f64,
            Measure::Private => footprint?.private as f64,
            Measure::Processes => footprint?.processes as f64,
            Measure::Threads => footprint?.threads as f64,
        })
    }

    /// The figure with its unit, or a dash.
    pub fn show(self, figures: &Figures) -> String {
        self.of(figures).map_or_else(|| "–".to_owned(), |value| self.write(value))
    }

    fn write(self, value: f64) -> String {
        match self {
            Measure::Memory | Measure::Private => bytes(value),
            Measure::Processes | Measure::Threads => format!("{value:.0}"),
            _ => time(value),
        }
    }
}

/// The median of the time, and in brackets the best and the 95th of a hundred: `608 µs (567–748)`.
pub(crate) fn spread(figures: &Figures) -> String {
    let [best, median, p95] = [Measure::Best, Measure::Median, Measure::P95]
        .map(|measure| measure.of(figures).map(time).unwrap_or_default());
    let number = |text: &str, unit: &str| text.strip_suffix(unit).unwrap_or(text).to_owned();
    let unit = if median.ends_with(" ms") { " ms" } else { " µs" };
    format!("{median} ({}–{})", number(&best, unit), number(&p95, unit))
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
        let footprint = Footprint { memory, private: memory, processes: 1, threads: 0 };
        Figures { elapsed: times(), cpu: times(), each: None, footprint: Some(footprint) }
    }

    #[test]
    fn figures_are_written_in_the_unit_that_fits() {
        assert_eq!(Measure::Median.write(372.4), "372 µs");
        assert_eq!(Measure::P95.write(9_999.0), "9999 µs");
        assert_eq!(Measure::Cpu.write(12_345.0), "12.3 ms");
        assert_eq!(Measure::Memory.write(512.0 * 1024.0), "512 KiB");
        assert_eq!(Measure::Memory.write(4.25 * 1024.0 * 1024.0), "4.2 MiB");
        assert_eq!(Measure::Threads.write(6.0), "6");
    }

    #[test]
    fn a_spread_names_its_unit_once_where_there_is_one() {
        let figures = |micros: [u64; 3]| {
            let elapsed = Sorted::new(micros.map(Duration::from_micros).to_vec()).unwrap();
            Figures { elapsed, ..constant(1, 1) }
        };
        assert_eq!(spread(&figures([500, 510, 700])), "510 µs (500–700)");
        assert_eq!(spread(&figures([12_000, 12_340, 15_000])), "12.3 ms (12.0–15.0)");
        assert_eq!(spread(&figures([9_000, 12_340, 15_000])), "12.3 ms (9000 µs–15.0)");
    }

    #[test]
    fn ratios_have_a_few_digits() {
        assert_eq!(times(450.0, 400.0).unwrap(), "1.12×");
        assert_eq!(times(2_000.0, 100.0).unwrap(), "20.0×");
        assert_eq!(times(6.0, 0.0), None);
    }

    #[test]
    fn every_measure_reads_its_own_figure() {
        let times = |end| Sorted::new((1..=end).map(Duration::from_micros).collect()).unwrap();
        let figures = Figures {
            elapsed: times(100),
            cpu: Sorted::new(vec![Duration::from_micros(7)]).unwrap(),
            each: Some(times(1000)),
            footprint: Some(Footprint { memory: 4096, private: 1024, processes: 2, threads: 5 }),
        };
        for (measure, expected) in [
            (Measure::Best, 1.0),
            (Measure::Median, 50.0),
            (Measure::P95, 95.0),
            (Measure::EachMedian, 500.0),
            (Measure::EachP99, 990.0),
            (Measure::Cpu, 7.0),
            (Measure::Memory, 4096.0),
            (Measure::Private, 1024.0),
            (Measure::Processes, 2.0),
            (Measure::Threads, 5.0),
        ] {
            assert_eq!(measure.of(&figures).unwrap().round(), expected, "{measure:?}");
        }
    }

    #[test]
    fn what_was_not_measured_is_a_dash() {
        assert_eq!(Measure::EachP99.show(&constant(1, 1)), "–");
        assert_eq!(Measure::Memory.show(&Figures { footprint: None, ..constant(1, 1) }), "–");
    }
}
