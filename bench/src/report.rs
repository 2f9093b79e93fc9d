//! The tables, for the terminal and for the document, and what must be said beside them.
//!
//! Nothing in it tells which machine it was, only what kind.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::case::{Case, Group, Subject};
use crate::figures::{Figures, Measure, bytes, spread, times};
use crate::target::{Verdict, judge};

/// All that was measured: for each case the floor's figures, ours, and the other's.
pub type Results = Vec<(&'static Case, [Figures; 3])>;

/// The tables of all figures.
pub fn tables(results: &Results) -> String {
    let tables = [("Time", times_table(results)), ("CPU time", cpu(results)), ("Memory", memory(results))];
    let mut text: String =
        tables.into_iter().map(|(title, table)| format!("### {title}\n\n{table}\n")).collect();
    if let Some(each) = each(results) {
        text += &format!("### Each of those at once\n\n{each}\n");
    }
    text
}

fn times_table(results: &Results) -> String {
    compared(results, |figures| figures.each_ref().map(spread), Measure::Median)
}

fn cpu(results: &Results) -> String {
    compared(results, |figures| figures.each_ref().map(|of| Measure::Cpu.show(of)), Measure::Cpu)
}

/// A row for each case: how the figures of the three read, and how one measure of them compares.
fn compared(results: &Results, shown: impl Fn(&[Figures; 3]) -> [String; 3], measure: Measure) -> String {
    let mut rows = vec![["case", "floor", "ours", "other", "ours / floor", "other / ours"].map(String::from)];
    for (case, figures) in results {
        let [floor, ours, other] = figures;
        let [on_the_floor, us, them] = shown(figures);
        let ratios = [ratio(measure, ours, floor), ratio(measure, other, ours)];
        let [of_floor, of_ours] = ratios;
        rows.push([case.name.to_owned(), on_the_floor, us, them, of_floor, of_ours]);
    }
    markdown(&rows, 1)
}

fn memory(results: &Results) -> String {
    let columns =
        ["case", "floor", "ours", "other", "other / ours", "private", "", "processes", "", "threads", ""];
    let mut rows = vec![columns.map(String::from)];
    for (case, [floor, ours, other]) in results {
        if [floor, ours, other].iter().all(|of| of.footprint.is_none()) {
            continue;
        }
        let both = |measure: Measure| [measure.show(ours), measure.show(other)];
        let ([private, theirs], [started, starts], [threads, others]) =
            (both(Measure::Private), both(Measure::Processes), both(Measure::Threads));
        let peak = |of| Measure::Memory.show(of);
        let less = ratio(Measure::Memory, other, ours);
        let name = case.name.to_owned();
        rows.push([
            name,
            peak(floor),
            peak(ours),
            peak(other),
            less,
            private,
            theirs,
            started,
            starts,
            threads,
            others,
        ]);
    }
    markdown(&rows, 1)
}

/// None if nothing was called at once.
fn each(results: &Results) -> Option<String> {
    let mut rows =
        vec![["case", "", "floor", "ours", "other", "ours / floor", "other / ours"].map(String::from)];
    for (case, [floor, ours, other]) in results.iter().filter(|(_, figures)| figures[0].each.is_some()) {
        for measure in [Measure::EachMedian, Measure::EachP99] {
            let [on_the_floor, us, them] = [floor, ours, other].map(|of| measure.show(of));
            let ratios = [ratio(measure, ours, floor), ratio(measure, other, ours)];
            let [of_floor, of_ours] = ratios;
            let names = [case.name, measure.name()].map(str::to_owned);
            let [case, measure] = names;
            rows.push([case, measure, on_the_floor, us, them, of_floor, of_ours]);
        }
    }
    (rows.len() > 1).then(|| markdown(&rows, 2))
}

fn ratio(measure: Measure, one: &Figures, other: &Figures) -> String {
    let both = measure.of(one).zip(measure.of(other));
    both.and_then(|(one, other)| times(one, other)).unwrap_or_else(|| "–".to_owned())
}

/// The table of the targets for what was measured. Empty if there are none.
pub fn targets(results: &Results) -> (String, Vec<Verdict>) {
    let verdicts = judge(results);
    if verdicts.is_empty() {
        return (String::new(), verdicts);
    }
    let mut rows = vec![["target", "measured", ""].map(String::from)];
    rows.extend(verdicts.iter().map(|verdict| {
        let word = if verdict.met { "met" } else { "missed" };
        [verdict.promise.clone(), format!("{:.2}×", verdict.seen), word.to_owned()]
    }));
    (markdown(&rows, 1), verdicts)
}

/// What was measured, on what: the lines above the tables.
#[derive(Debug)]
pub struct Setting {
    /// The arguments of the program.
    pub arguments: Vec<String>,
    /// How often each call was timed.
    pub runs: usize,
    /// What the three are.
    pub subjects: [Described; 3],
}

/// A subject, for the reader.
#[derive(Debug)]
pub struct Described {
    /// `floor`, `ours` or `other`.
    pub role: &'static str,
    /// What it is.
    pub what: String,
    /// The size of its first executable, in bytes.
    pub size: u64,
    /// How that is linked.
    pub linked: Linked,
}

impl Described {
    /// Looks at the executable that takes the first of the `cases`.
    pub fn new(role: &'static str, what: &str, subject: &Subject, case: &Case) -> io::Result<Described> {
        let program = subject.program(&case.timed);
        let found = Linked::of(&program).and_then(|linked| Ok((program.metadata()?.len(), linked)));
        let (size, linked) =
            found.map_err(|err| io::Error::new(err.kind(), format!("{}: {err}", program.display())))?;
        Ok(Described { role, what: what.to_owned(), size, linked })
    }
}

/// How an executable comes by its libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It has all that it needs.
    Statically,
    /// A loader puts it together at each start.
    Dynamically,
    /// It is no ELF file, for example a script.
    Unknown,
}

impl Linked {
    /// Whether the file names a loader (`PT_INTERP`, `elf(5)`).
    pub fn of(program: &Path) -> io::Result<Linked> {
        let mut start = Vec::new();
        fs::File::open(program)?.take(4096).read_to_end(&mut start)?;
        Ok(linked(&start).unwrap_or(Linked::Unknown))
    }

    fn word(self) -> &'static str {
        match self {
            Linked::Statically => "static",
            Linked::Dynamically => "dynamic",
            Linked::Unknown => "unknown",
        }
    }
}

/// Reads the program headers of a 64-bit ELF file of this machine's byte order.
fn linked(file: &[u8]) -> Option<Linked> {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| Some(usize::from(u16::from_ne_bytes(file.get(at..at + 2)?.try_into().ok()?)));
    file.starts_with(b"\x7fELF\x02").then_some(())?;
    let table = usize::try_from(u64::from_ne_bytes(file.get(0x20..0x28)?.try_into().ok()?)).ok()?;
    let (size, number) = (half(0x36)?, half(0x38)?);
    for index in 0..number {
        let entry = table.checked_add(index.checked_mul(size)?)?;
        let kind = file.get(entry..entry.checked_add(4)?)?;
        if u32::from_ne_bytes(kind.try_into().ok()?) == PT_INTERP {
            return Some(Linked::Dynamically);
        }
    }
    Some(Linked::Statically)
}

/// Whether the floor, which does the same each time, took very different times.
pub fn is_busy(floor: &Figures) -> bool {
    let both = Measure::P95.of(floor).zip(Measure::Best.of(floor));
    both.is_some_and(|(p95, best)| p95 > 2.0 * best)
}

const BUSY: &str = " It was busy with something else besides, which the spread of the floor shows:
read the best times before the medians, and measure again.";

/// The whole document.
pub fn document(setting: &Setting, machine: &str, results: &Results) -> String {
    let mut subjects = vec![["", "what", "executable", "linked"].map(String::from)];
    subjects.extend(setting.subjects.iter().map(|subject| {
        let size = bytes(subject.size as f64);
        [subject.role.to_owned(), subject.what.clone(), size, subject.linked.word().to_owned()]
    }));
    let command = setting.arguments.iter().map(|argument| quoted(argument)).collect::<Vec<_>>().join(" ");
    let (targets, _) = targets(results);
    let targets = if targets.is_empty() { targets } else { format!("## Targets\n\n{targets}\n") };
    let cases = results.iter().map(|(case, _)| [case.name.to_owned(), case.about.to_owned()]);
    let cases: Vec<_> = [["case", "is"].map(String::from)].into_iter().chain(cases).collect();
    format!(
        "\
# Benchmarks

This file is written by the last of these lines; the others build what it starts.

```sh
tools/build-static && tools/build-static floor && tools/build-static runtime
mkdir -p target/plugins && target/static/ferrocni install target/plugins
cargo run --release -p bench -- {command}
```

Each call is made as a runtime makes it: a new process, its parameters in the environment, its configuration on standard
input. The time runs from just before the process is started until its output has been read to the end and it is gone.
The three take turns, in changing order, {runs} times after a warm-up ({share} times where a run is a hundred calls), in
one run of one program, each on a host of its own: a network namespace, and a folder in memory for what it keeps.
Their files were read from disk before, as on a node that has started, not just built. The *floor* is a static program
that makes the kernel do the same with the fewest requests and nothing else: it reads no configuration, chooses no address
and prints nothing. In the cases *embedded*, ours and the floor are each a process that stays, and the time is taken in it.

{subjects}
{machine}.{busy}

{targets}## Results

{cases}
{tables}Times are medians, in brackets the best and the 95th of a hundred. CPU time is user and system time of all processes
that were started, the median. Memory is the most that was resident in the largest process; nearly all of ours is the
program's file, which the kernel maps in large pieces and all processes share. Private memory is what the process had to
itself in the end, processes are those started, threads those beyond the first of each: in each case ours, then the other's.
",
        runs = setting.runs,
        share = Group::Burst.rounds(setting.runs),
        busy = if results.iter().any(|(_, [floor, ..])| is_busy(floor)) { BUSY } else { "" },
        subjects = markdown(&subjects, 2),
        cases = markdown(&cases, 2),
        tables = tables(results),
    )
}

/// What kind of machine this is: `Linux 6.18, x86_64, 2 cores, virtual`.
pub fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let virtual_machine = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| is_virtual(&text));
    let kind = if virtual_machine { ", a virtual machine" } else { "" };
    let cores = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
    format!("Measured on Linux {}, {}, {cores}{kind}", version(&release), std::env::consts::ARCH)
}

/// The part of a kernel release that is a version: what follows is its builder's.
fn version(release: &str) -> &str {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    release[..end].trim_end_matches('.')
}

/// x86 processors say so when there is a hypervisor; there, some instructions cost more.
fn is_virtual(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// An argument as it is typed into a shell.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

/// A Markdown table that can be read as it is. The first `words` columns are flush left, the figures right.
fn markdown<const N: usize>(rows: &[[String; N]], words: usize) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column < words { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") }
        });
        text.extend(std::iter::once("|".to_owned()).chain(cells).chain(["\n".to_owned()]));
        if number == 0 {
            let rule = widths.iter().enumerate().map(|(column, width)| {
                let line = "-".repeat(width + 1);
                if column < words { format!("{line}-|") } else { format!("{line}:|") }
            });
            text.extend(std::iter::once("|".to_owned()).chain(rule).chain(["\n".to_owned()]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::cases::CASES;
    use crate::figures::tests::constant;
    use crate::stats::Sorted;

    fn results() -> Results {
        vec![(&CASES[0], [constant(400, 512 << 10), constant(500, 1 << 20), constant(2_000, 8 << 20)])]
    }

    fn setting() -> Setting {
        let described =
            |role, linked| Described { role, what: format!("the {role} one"), size: 1 << 20, linked };
        Setting {
            arguments: ["--ours", "my plugins"].map(String::from).to_vec(),
            runs: 200,
            subjects: [
                described("floor", Linked::Statically),
                described("ours", Linked::Statically),
                described("other", Linked::Dynamically),
            ],
        }
    }

    #[test]
    fn the_tables_have_a_row_for_each_case() {
        let expected = "\
### Time

| case    |            floor |             ours |               other | ours / floor | other / ours |
|---------|-----------------:|-----------------:|--------------------:|-------------:|-------------:|
| version | 400 µs (400–400) | 500 µs (500–500) | 2000 µs (2000–2000) |        1.25× |        4.00× |

### CPU time

| case    |  floor |   ours |   other | ours / floor | other / ours |
|---------|-------:|-------:|--------:|-------------:|-------------:|
| version | 400 µs | 500 µs | 2000 µs |        1.25× |        4.00× |

### Memory

| case    |   floor |    ours |   other | other / ours | private |         | processes |     | threads |     |
|---------|--------:|--------:|--------:|-------------:|--------:|--------:|----------:|----:|--------:|----:|
| version | 512 KiB | 1.0 MiB | 8.0 MiB |        8.00× | 1.0 MiB | 8.0 MiB |         1 |   1 |       0 |   0 |

";
        assert_eq!(tables(&results()), expected);
    }

    #[test]
    fn what_was_called_at_once_has_a_table_of_its_own() {
        let mut results = results();
        for figures in &mut results[0].1 {
            figures.each = Sorted::new(vec![Duration::from_millis(20)]);
        }
        let tables = tables(&results);
        assert!(tables.contains("| version | each, p99    | 20.0 ms | 20.0 ms | 20.0 ms |"), "{tables}");
    }

    #[test]
    fn the_targets_say_whether_they_were_met() {
        let (table, verdicts) = targets(&results());
        assert_eq!(verdicts.len(), 3);
        assert!(verdicts.iter().all(|verdict| verdict.met));
        assert!(table.contains("| version time, median: at most 1.3× the floor "), "{table}");
        assert!(table.contains("1.25× | met |"), "{table}");
    }

    #[test]
    fn the_document_holds_the_command_the_subjects_and_the_tables() {
        let document = document(&setting(), "Measured on something", &results());
        for part in [
            "cargo run --release -p bench -- --ours 'my plugins'\n",
            "| other | the other one |    1.0 MiB | dynamic |\n",
            "\nMeasured on something.\n",
            "200 times after a warm-up",
            "\n## Targets\n\n| target ",
            &tables(&results()),
        ] {
            assert!(document.contains(part), "{part:?} is missing in:\n{document}");
        }
        assert!(!document.contains("\n\n\n"), "{document}");
    }

    #[test]
    fn a_case_without_targets_needs_no_table_of_them() {
        let check = CASES.iter().find(|case| case.name == "loopback-check").unwrap();
        let results = vec![(check, [constant(1, 1), constant(1, 1), constant(1, 1)])];
        assert!(!document(&setting(), "Measured", &results).contains("## Targets"));
    }

    #[test]
    fn a_kernel_is_its_version_and_nothing_more() {
        assert_eq!(version("6.18.44-cloud-amd64\n"), "6.18.44");
        assert_eq!(version("6.1.0\n"), "6.1.0");
        assert_eq!(version("5.14.0.el9\n"), "5.14.0");
    }

    #[test]
    fn a_hypervisor_is_a_flag_of_the_processor() {
        assert!(is_virtual("processor : 0\nflags\t\t: fpu hypervisor sse\n"));
        assert!(!is_virtual("model name : hypervisor\nflags\t\t: fpu sse\n"));
    }

    #[test]
    fn arguments_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("--write=docs/benchmarks.md"), "--write=docs/benchmarks.md");
        assert_eq!(quoted("Debian's plugins"), r"'Debian'\''s plugins'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn an_executable_that_names_a_loader_is_dynamic() {
        let mut elf = vec![0; 0x40 + 2 * 0x38];
        elf[..5].copy_from_slice(b"\x7fELF\x02");
        elf[0x20..0x28].copy_from_slice(&0x40_u64.to_ne_bytes());
        elf[0x36..0x38].copy_from_slice(&0x38_u16.to_ne_bytes());
        elf[0x38..0x3a].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(linked(&elf), Some(Linked::Statically));
        elf[0x78..0x7c].copy_from_slice(&3_u32.to_ne_bytes());
        assert_eq!(linked(&elf), Some(Linked::Dynamically));
        assert_eq!(linked(b"#!/bin/sh\n"), None);
        assert_eq!(linked(&elf[..0x50]), None);
    }
}
