//! `compare`: holds the instruction counts of a run against the checked-in ones.
//!
//! The last step of `.ci/instructions`. A case that needs more than the tolerance allows fails, as
//! does one that is missing on either side; one that needs less is pointed out, because a baseline
//! that lags hides the next loss. It must not run anything itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;

/// Compilers and C libraries differ by a little; a real change of a hot function by more.
const TOLERANCE_PERCENT: u64 = 3;

/// Compares instruction counts with the baseline.
#[derive(Parser)]
struct Arguments {
    /// Where Gungraun left its summaries.
    results: PathBuf,
    /// The checked-in counts.
    baseline: PathBuf,
    /// Writes the baseline instead of comparing with it.
    #[arg(long)]
    update: bool,
}

type Counts = BTreeMap<String, u64>;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut found = Counts::new();
    collect(&arguments.results, &mut found)?;
    ensure!(
        !found.is_empty(),
        "no summaries under {}",
        arguments.results.display()
    );
    if arguments.update {
        let text = serde_json::to_string_pretty(&found)? + "\n";
        fs::write(&arguments.baseline, text)
            .with_context(|| format!("write {}", arguments.baseline.display()))?;
        println!(
            "{} counts written to {}",
            found.len(),
            arguments.baseline.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    let text = fs::read_to_string(&arguments.baseline)
        .with_context(|| format!("read {}", arguments.baseline.display()))?;
    let baseline = serde_json::from_str::<Counts>(&text)
        .with_context(|| format!("parse {}", arguments.baseline.display()))?;
    let (table, failed) = compare(&baseline, &found);
    print!("{table}");
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{failed} failed (tolerance {TOLERANCE_PERCENT} %); where that is meant, run \
         .ci/instructions --update and say why in the commit"
    );
    Ok(ExitCode::FAILURE)
}

/// Reads every summary below a directory.
fn collect(directory: &Path, counts: &mut Counts) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, counts)?;
        } else if path.file_name().is_some_and(|name| name == "summary.json") {
            let text = fs::read_to_string(&path)?;
            let (name, count) = serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|summary| instructions(&summary))
                .with_context(|| format!("{} is not a summary", path.display()))?;
            counts.insert(name, count);
        }
    }
    Ok(())
}

/// A summary's case and its count.
fn instructions(summary: &Value) -> Option<(String, u64)> {
    let name = summary.get("id")?.as_str()?;
    let count = summary.pointer("/profiles/0/data/total/metrics/Ir/values/new")?;
    Some((name.to_owned(), count.as_u64()?))
}

/// A line per case, and how many failed.
fn compare(baseline: &Counts, found: &Counts) -> (String, usize) {
    let mut names = baseline.keys().chain(found.keys()).collect::<Vec<_>>();
    names.sort();
    names.dedup();
    let mut table = String::new();
    let mut failed = 0;
    for name in names {
        let (figures, verdict) = match (baseline.get(name), found.get(name)) {
            (Some(old), Some(new)) => {
                let percent = (*new as f64 / *old as f64 - 1.0) * 100.0;
                let verdict = Verdict::of(*old, *new);
                (format!("{old:>10} {new:>10} {percent:>+7.2} %"), verdict)
            }
            (Some(old), None) => (format!("{old:>10}    not run          "), Verdict::Failed),
            (None, new) => {
                let new = new.copied().unwrap_or_default();
                (format!("   not yet {new:>10}          "), Verdict::Failed)
            }
        };
        let mark = match verdict {
            Verdict::Same => "",
            Verdict::Cheaper => "  cheaper: update the baseline",
            Verdict::Failed => "  FAILED",
        };
        table += &format!("{figures}  {name}{mark}\n");
        failed += usize::from(verdict == Verdict::Failed);
    }
    (table, failed)
}

#[derive(PartialEq)]
enum Verdict {
    Same,
    Cheaper,
    Failed,
}

impl Verdict {
    fn of(old: u64, new: u64) -> Self {
        if new.abs_diff(old) * 100 <= TOLERANCE_PERCENT * old {
            Verdict::Same
        } else if new < old {
            Verdict::Cheaper
        } else {
            Verdict::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(list: &[(&str, u64)]) -> Counts {
        list.iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn what_costs_more_or_is_missing_fails() {
        let baseline = counts(&[("parse", 1000), ("route", 200)]);
        let check = |found: &[(&str, u64)], expected: usize| {
            let (table, failed) = compare(&baseline, &counts(found));
            assert_eq!(failed, expected, "{table}");
        };
        check(&[("parse", 1030), ("route", 194)], 0);
        check(&[("parse", 1031), ("route", 200)], 1);
        check(&[("parse", 960), ("route", 207)], 1);
        check(&[("parse", 1000)], 1);
        check(&[("parse", 1000), ("route", 200), ("write", 1)], 1);
    }

    #[test]
    fn reads_a_summary() {
        let total = serde_json::json!({ "metrics": { "Ir": { "values": { "new": 1736 } } } });
        let summary = serde_json::json!({
            "id": "http1_request",
            "profiles": [{ "data": { "total": total } }],
        });
        assert_eq!(
            instructions(&summary),
            Some(("http1_request".to_owned(), 1736))
        );
        assert_eq!(instructions(&serde_json::json!({})), None);
    }
}
