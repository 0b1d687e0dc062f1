//! Figures beside their floors, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::statistics::{median, range};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    CallsPerSecond,
    Nanoseconds,
    Kibibytes,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Microseconds => "µs",
            Unit::Milliseconds => "ms",
            Unit::CallsPerSecond => "calls/s",
            Unit::Nanoseconds => "ns",
            Unit::Kibibytes => "KiB",
        }
    }
}

/// One figure: a value of the product and of each part of its floor for each round.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) product: Vec<f64>,
    /// Empty where there is no floor.
    pub(crate) floor: Vec<f64>,
    /// What the floor is made of, by name.
    pub(crate) parts: Vec<(&'static str, Vec<f64>)>,
}

impl Figure {
    pub(crate) fn new(name: &'static str, unit: Unit) -> Figure {
        Figure {
            name,
            unit,
            product: Vec::new(),
            floor: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Adds a round. The floor is the sum of its parts.
    pub(crate) fn round(&mut self, product: f64, parts: &[(&'static str, f64)]) {
        let floor = parts.iter().map(|(_, value)| value).sum();
        self.round_of(product, floor, parts);
    }

    /// Adds a round whose floor is made of its parts in some other way.
    pub(crate) fn round_of(&mut self, product: f64, floor: f64, parts: &[(&'static str, f64)]) {
        self.product.push(product);
        if !parts.is_empty() {
            self.floor.push(floor);
        }
        for (name, value) in parts {
            match self.parts.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(*value),
                None => self.parts.push((name, vec![*value])),
            }
        }
    }

    /// How many times the floor's time the product takes, in each round.
    fn ratios(&self) -> Vec<f64> {
        let rounds = self.product.iter().zip(&self.floor);
        rounds
            .map(|(product, floor)| match self.unit {
                Unit::CallsPerSecond => floor / product,
                Unit::Nanoseconds | Unit::Microseconds | Unit::Milliseconds | Unit::Kibibytes => {
                    product / floor
                }
            })
            .collect()
    }

    fn to_json(&self) -> Value {
        let values = |values: &[f64]| {
            let (least, most) = range(values);
            json!({"median": median(values), "least": least, "most": most, "rounds": values})
        };
        let mut figure = json!({
            "name": self.name,
            "unit": self.unit.name(),
            "product": values(&self.product),
        });
        if !self.floor.is_empty() {
            figure["floor"] = values(&self.floor);
            figure["ratio"] = values(&self.ratios());
            let parts = self
                .parts
                .iter()
                .map(|(name, part)| ((*name).to_owned(), values(part)));
            figure["parts"] = Value::Object(parts.collect());
        }
        figure
    }

    fn cells(&self) -> [String; 7] {
        let number = |value: f64| match value {
            value if value >= 10_000.0 => format!("{:.1}k", value / 1000.0),
            value if value >= 100.0 => format!("{value:.0}"),
            value => format!("{value:.1}"),
        };
        let [mut floor, mut ratio, mut spread] = [const { String::new() }; 3];
        if !self.floor.is_empty() {
            let ratios = self.ratios();
            let (least, most) = range(&ratios);
            floor = number(median(&self.floor));
            ratio = format!("{:.2}", median(&ratios));
            spread = format!("{least:.2}–{most:.2}");
        }
        let parts = self.parts.iter();
        let parts = parts.map(|(name, part)| format!("{name} {}", number(median(part))));
        [
            self.name.to_owned(),
            self.unit.name().to_owned(),
            number(median(&self.product)),
            floor,
            ratio,
            spread,
            parts.collect::<Vec<_>>().join(" + "),
        ]
    }
}

/// All figures of a run.
pub(crate) struct Report {
    pub(crate) figures: Vec<Figure>,
}

const HEADS: [&str; 7] = [
    "figure",
    "unit",
    "spore",
    "floor",
    "ratio",
    "spread",
    "floor's parts",
];

impl Report {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "architecture": std::env::consts::ARCH,
            "os": std::env::consts::OS,
            "cores": cores(),
            "figures": self.figures.iter().map(Figure::to_json).collect::<Vec<_>>(),
        })
    }
}

/// An aligned table: medians over rounds, numbers to the right.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![HEADS.map(str::to_owned)];
        rows.extend(self.figures.iter().map(Figure::cells));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; 7] = std::array::from_fn(|column| width(column).unwrap_or(0));
        for row in &rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let width = widths[column];
                line += &match column {
                    0 | 1 | 6 => format!("{cell:<width$}  "),
                    _ => format!("{cell:>width$}  "),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(
            f,
            "\nMedians over rounds, {} cores. The ratio is how many times the floor Spore takes.",
            cores()
        )
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_says_how_much_slower_whatever_the_unit() {
        let mut time = Figure::new("time", Unit::Microseconds);
        time.round(30.0, &[("a", 10.0), ("b", 5.0)]);
        assert_eq!(time.ratios(), [2.0]);
        let mut rate = Figure::new("rate", Unit::CallsPerSecond);
        rate.round_of(100.0, 300.0, &[("a", 400.0)]);
        assert_eq!(rate.ratios(), [3.0]);
    }

    #[test]
    fn columns_align_and_a_figure_without_a_floor_has_none() {
        let mut long = Figure::new("a long name", Unit::CallsPerSecond);
        long.round_of(12_345.0, 20_000.0, &[("quinn", 25_000.0)]);
        let mut short = Figure::new("short", Unit::Milliseconds);
        short.round(1.0, &[]);
        let text = Report {
            figures: vec![long, short],
        }
        .to_string();
        let lines: Vec<&str> = text.lines().collect();
        let column = |line: &str, text: &str| {
            let at = line.find(text).expect("it is there");
            line[..at].chars().count() + text.chars().count()
        };
        assert_eq!(column(lines[0], "spore"), column(lines[1], "12.3k"));
        assert_eq!(column(lines[1], "12.3k"), column(lines[2], "1.0"));
        assert!(lines[2].ends_with("1.0"), "{text}");
    }
}
