//! `docs/differences.md`, as far as it has to agree with the cases.
//!
//! Each of its tables has a row for every deliberate difference: an identifier, what the reference does, what
//! Ferrocni does, why, and what proves it. A difference that a case names must have a row, and a row that says it is
//! proved here must be named by a case.

use std::collections::BTreeSet;

/// The file as it was when this program was built.
pub(crate) const BUILT_IN: &str = include_str!("../../docs/differences.md");

/// What the last column of a row says that the cases prove.
const PROVED_HERE: &str = "conformance";

/// Everything in which the document and the cases disagree.
pub(crate) fn disagreements(document: &str, named: &BTreeSet<&str>) -> Vec<String> {
    let rows = match rows(document) {
        Ok(rows) => rows,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    let mut known = BTreeSet::new();
    for (id, proof) in &rows {
        if !known.insert(id.as_str()) {
            problems.push(format!("the difference {id} is there twice"));
        }
        if proof == PROVED_HERE && !named.contains(id.as_str()) {
            problems.push(format!("the difference {id} is said to be proved here, and no case names it"));
        }
    }
    let unknown = named.iter().filter(|id| !known.contains(*id));
    problems.extend(unknown.map(|id| format!("a case names the difference {id}, which is not written down")));
    problems
}

/// Identifier and proof of every row.
fn rows(document: &str) -> Result<Vec<(String, String)>, String> {
    let mut rows = Vec::new();
    for line in document.lines().map(str::trim).filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let id = cells[0].trim_matches('`');
        if id == "id" || id.starts_with("--") || id.starts_with(":-") {
            continue;
        }
        let slug = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if cells.len() != 5 || id.is_empty() || !id.chars().all(slug) {
            return Err(format!("not a row of five cells that starts with an identifier: {line}"));
        }
        rows.push((id.to_owned(), cells[4].trim_matches('`').to_owned()));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    const TABLE: &str = "# Title\n\n| id | the reference | Ferrocni | why | proved by |\n|---|---|---|---|---|\n\
                         | `a-b` | x | y | z | conformance |\n| c | x | y | z | libcni |\n";

    #[test]
    fn both_must_agree() {
        assert!(disagreements(TABLE, &BTreeSet::from(["a-b"])).is_empty());
        assert_eq!(disagreements(TABLE, &BTreeSet::from(["a-b", "d"])).len(), 1);
        assert!(disagreements(TABLE, &BTreeSet::new())[0].contains("a-b is said"));
        let twice = format!("{TABLE}| c | x | y | z | libcni |\n");
        assert!(disagreements(&twice, &BTreeSet::from(["a-b"]))[0].contains("twice"));
        assert!(disagreements("| x | y |", &BTreeSet::new())[0].contains("five cells"));
    }

    #[test]
    fn the_document_and_the_cases_agree() {
        let suite = Suite::load().unwrap();
        assert_eq!(disagreements(BUILT_IN, &suite.differences()), Vec::<String>::new());
    }
}
