//! Collects samples per row and proxy, and shows them: one table for people, one JSON for tools.
//!
//! The end of a run. Figures are medians over rounds; ratios are ratios of medians to the best
//! rival of the same run. It must not drop a sample: the JSON holds every one.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// What a row's figure is held against.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bar {
    /// At most this many times the best rival's figure.
    OfBestRival(f64),
    /// At most this figure, whatever the rivals do.
    Absolute(f64),
    /// Recorded for what it explains.
    None,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What `--rows` calls it.
    pub id: &'static str,
    /// What it is.
    pub title: &'static str,
    /// The unit of its figures.
    pub unit: &'static str,
    /// What Cardea is held against.
    pub bar: Bar,
}

/// One measurement of one proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// In the row's unit.
    pub value: f64,
    /// Side figures by name (throughput, latency, failures), in the unit that the name ends with.
    pub notes: Vec<(&'static str, f64)>,
}

/// Everything measured in a run.
#[derive(Default, Serialize)]
pub(crate) struct Report {
    /// Column name to version and TLS library, in column order.
    versions: Vec<(String, String)>,
    /// What cannot be said in a number.
    remarks: Vec<String>,
    rows: Vec<Measured>,
    #[serde(skip)]
    cardea: Option<String>,
}

#[derive(Serialize)]
struct Measured {
    id: &'static str,
    title: &'static str,
    unit: &'static str,
    bar: Bar,
    columns: BTreeMap<String, Column>,
}

#[derive(Default, Serialize)]
struct Column {
    median: f64,
    ratio_to_best_rival: Option<f64>,
    samples: Vec<f64>,
    notes: BTreeMap<&'static str, Vec<f64>>,
}

impl Report {
    /// Adds a column.
    pub(crate) fn column(&mut self, name: &str, version: &str, is_cardea: bool) {
        self.versions.push((name.to_owned(), version.to_owned()));
        if is_cardea {
            self.cardea = Some(name.to_owned());
        }
    }

    /// Adds a sample to a row, which takes its place when it is first met.
    pub(crate) fn add(&mut self, row: &Row, proxy: &str, sample: Sample) {
        let column = self
            .measured(row)
            .columns
            .entry(proxy.to_owned())
            .or_default();
        column.samples.push(sample.value);
        column.median = median(&column.samples);
        for (name, value) in sample.notes {
            column.notes.entry(name).or_default().push(value);
        }
    }

    fn measured(&mut self, row: &Row) -> &mut Measured {
        let position = self.rows.iter().position(|known| known.id == row.id);
        let position = position.unwrap_or_else(|| {
            let Row {
                id,
                title,
                unit,
                bar,
            } = *row;
            self.rows.push(Measured {
                id,
                title,
                unit,
                bar,
                columns: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        &mut self.rows[position]
    }

    /// Adds a remark.
    pub(crate) fn remark(&mut self, text: String) {
        eprintln!("{text}");
        self.remarks.push(text);
    }

    /// Notes that a row could not be measured; the run goes on, and the row counts as missed.
    pub(crate) fn failed(&mut self, row: &Row, proxy: &str, error: &anyhow::Error) {
        self.measured(row);
        self.remark(format!("{}: {proxy}: {error:#}", row.id));
    }

    /// Computes what needs the whole run.
    pub(crate) fn finish(&mut self) {
        for row in &mut self.rows {
            let rivals = row
                .columns
                .iter()
                .filter(|(name, _)| Some(*name) != self.cardea.as_ref());
            let best = rivals
                .map(|(_, column)| column.median)
                .min_by(f64::total_cmp);
            for column in row.columns.values_mut() {
                let ratio = best
                    .filter(|best| *best > 0.0)
                    .map(|best| column.median / best);
                column.ratio_to_best_rival = ratio;
            }
        }
    }

    /// Saves everything as JSON.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))
    }

    /// The table, in Markdown, so that it can go into the documentation as it is.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (name, version) in &self.versions {
            let _ = writeln!(text, "{name}: {version}");
        }
        text.push_str("\n| row | unit |");
        for (name, _) in &self.versions {
            let _ = write!(text, " {name} |");
        }
        text.push_str(" bar | verdict |\n|---|---|");
        text.push_str(&"---|".repeat(self.versions.len() + 2));
        text.push('\n');
        for row in &self.rows {
            let _ = write!(text, "| {} | {} |", row.title, row.unit);
            for (name, _) in &self.versions {
                match row.columns.get(name) {
                    Some(column) => column.write(&mut text),
                    None => text.push_str(" – |"),
                }
            }
            let _ = writeln!(text, " {} | {} |", row.bar.text(), self.verdict(row));
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "\n{remark}");
        }
        text
    }

    fn verdict(&self, row: &Measured) -> &'static str {
        let Some(cardea) = &self.cardea else {
            return "";
        };
        let Some(column) = row.columns.get(cardea) else {
            return "failed";
        };
        let met = match row.bar {
            Bar::None => return "",
            Bar::Absolute(most) => column.median <= most,
            Bar::OfBestRival(most) => match column.ratio_to_best_rival {
                Some(ratio) => ratio <= most,
                None => return "no rival",
            },
        };
        if met { "met" } else { "missed" }
    }
}

impl Column {
    fn write(&self, text: &mut String) {
        let _ = write!(text, " {}", figure(self.median));
        if let Some(ratio) = self.ratio_to_best_rival {
            let _ = write!(text, " (×{ratio:.2})");
        }
        let failed = self
            .notes
            .get("failed")
            .map_or(0.0, |all| all.iter().sum::<f64>());
        if failed > 0.0 {
            let _ = write!(text, ", {failed:.0} failed");
        }
        if let Some(values) = self.notes.get("per_cpu_s") {
            let _ = write!(text, ", {}/s", figure(median(values)));
        }
        for (name, label) in [
            ("p99_before_ms", "p99"),
            ("p99_during_ms", "→"),
            ("slowest_before_ms", "slowest"),
            ("slowest_during_ms", "→"),
        ] {
            if let Some(values) = self.notes.get(name) {
                let _ = write!(text, " {label} {} ms", figure(median(values)));
            }
        }
        for (name, label) in [("rate_before_per_s", "rate"), ("rate_during_per_s", "→")] {
            if let Some(values) = self.notes.get(name) {
                let _ = write!(text, " {label} {}/s", figure(median(values)));
            }
        }
        for (name, before, after) in [
            ("honest_percent", " honest", " %"),
            ("closed_in_ten_s", " closed", ""),
        ] {
            if let Some(values) = self.notes.get(name) {
                let _ = write!(text, "{before} {}{after}", figure(median(values)));
            }
        }
        text.push_str(" |");
    }
}

impl Bar {
    fn text(self) -> String {
        match self {
            Bar::OfBestRival(most) => format!("≤ ×{most}"),
            Bar::Absolute(most) => format!("≤ {most}"),
            Bar::None => String::new(),
        }
    }
}

/// Three significant digits where they matter.
fn figure(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        0.0 => "0".to_owned(),
        v => format!("{v:.2}"),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(upper), 0) => f64::midpoint(sorted[middle - 1], *upper),
        (Some(value), _) => *value,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = Row {
        id: "r",
        title: "a row",
        unit: "µs",
        bar: Bar::OfBestRival(0.9),
    };

    fn report(cardea: &[f64]) -> Report {
        let mut report = Report::default();
        report.column("cardea", "1", true);
        report.column("other", "2", false);
        report.column("best", "3", false);
        for (name, values) in [
            ("cardea", cardea),
            ("other", &[30.0]),
            ("best", &[20.0, 10.0]),
        ] {
            for value in values {
                report.add(
                    &ROW,
                    name,
                    Sample {
                        value: *value,
                        notes: Vec::new(),
                    },
                );
            }
        }
        report.finish();
        report
    }

    #[test]
    fn the_bar_is_held_against_the_best_rival() {
        let check = |cardea: &[f64], verdict: &str| {
            let table = report(cardea).table();
            assert!(
                table.contains(&format!("| ≤ ×0.9 | {verdict} |")),
                "{table}"
            );
        };
        check(&[13.0, 99.0, 13.4], "met");
        check(&[14.0], "missed");
        check(&[], "failed");
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
