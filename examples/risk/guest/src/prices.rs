//! Reading prices, for the programs that ship the callables.

use std::fmt;

use crate::History;

/// The first line of a file of prices.
const HEADER: &str = "symbol,date,price";

/// Names of months, as the dates of the file have them.
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Monthly prices of some stocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// Each stock with its prices, in the order of the file.
    stocks: Vec<(String, Vec<(Month, f64)>)>,
}

/// A month, counted from the year 0.
type Month = u32;

/// Why a text is not a file of prices, or has no history.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PriceError {
    /// The first line is not `symbol,date,price`.
    Header,
    /// A line has not the three parts that it should.
    Line {
        /// Its number, from 1
        line: usize,
    },
    /// A date is not like `Aug 1 2004`.
    Date {
        /// Its line, from 1
        line: usize,
        /// The text found
        found: String,
    },
    /// A price is not a number above 0.
    Price {
        /// Its line, from 1
        line: usize,
        /// The text found
        found: String,
    },
    /// The prices of a stock do not stand in the order of their months, or one is there twice.
    Order {
        /// Its line, from 1
        line: usize,
    },
    /// The stocks do not have two months in common.
    NothingInCommon,
    /// A month is missing within the months that the stocks have in common.
    Gap {
        /// The month before the gap, as `2004-08`
        after: String,
    },
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => write!(f, "the first line is not {HEADER:?}"),
            Self::Line { line } => write!(f, "line {line}: expected symbol, date and price"),
            Self::Date { line, found } => {
                write!(
                    f,
                    "line {line}: {found:?}, where a date like \"Aug 1 2004\" is expected"
                )
            }
            Self::Price { line, found } => {
                write!(
                    f,
                    "line {line}: {found:?}, where a number above 0 is expected"
                )
            }
            Self::Order { line } => write!(f, "line {line}: not later than the line before"),
            Self::NothingInCommon => f.write_str("the stocks have no two months in common"),
            Self::Gap { after } => write!(f, "no prices of all stocks in the month after {after}"),
        }
    }
}

impl std::error::Error for PriceError {}

impl Prices {
    /// Reads lines of symbol, date and price below a header, each stock oldest first.
    ///
    /// # Errors
    ///
    /// Names the line that is wrong.
    pub fn parse(csv: &str) -> Result<Self, PriceError> {
        let mut lines = (1..).zip(csv.lines());
        if lines.next().map(|(_, header)| header.trim_end()) != Some(HEADER) {
            return Err(PriceError::Header);
        }
        let mut stocks: Vec<(String, Vec<(Month, f64)>)> = Vec::new();
        for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
            let mut parts = text.trim_end().split(',');
            let (Some(symbol), Some(date), Some(price), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(PriceError::Line { line });
            };
            let bad_date = || PriceError::Date {
                line,
                found: date.to_owned(),
            };
            let month = parse_month(date).ok_or_else(bad_date)?;
            let bad_price = || PriceError::Price {
                line,
                found: price.to_owned(),
            };
            let price: f64 = price.parse().map_err(|_| bad_price())?;
            if !(price.is_finite() && price > 0.0) {
                return Err(bad_price());
            }

            let known = stocks.iter().position(|(known, _)| known == symbol);
            let index = known.unwrap_or_else(|| {
                stocks.push((symbol.to_owned(), Vec::new()));
                stocks.len() - 1
            });
            let series = &mut stocks[index].1;
            if series.last().is_some_and(|(last, _)| *last >= month) {
                return Err(PriceError::Order { line });
            }
            series.push((month, price));
        }
        Ok(Self { stocks })
    }

    /// The returns of the months that all stocks have in common, each from its month to the next.
    ///
    /// # Errors
    ///
    /// When there are no two such months, or one is missing between them.
    pub fn history(&self) -> Result<History, PriceError> {
        let (_, first) = self.stocks.first().ok_or(PriceError::NothingInCommon)?;
        let price = |series: &[(Month, f64)], month: Month| {
            let found = series
                .binary_search_by_key(&month, |(month, _)| *month)
                .ok()?;
            Some(series[found].1)
        };
        let common: Vec<(Month, Vec<f64>)> = first
            .iter()
            .filter_map(|(month, _)| {
                let prices = self.stocks.iter().map(|(_, series)| price(series, *month));
                Some((*month, prices.collect::<Option<_>>()?))
            })
            .collect();
        if common.len() < 2 {
            return Err(PriceError::NothingInCommon);
        }

        let mut history = History {
            symbols: self
                .stocks
                .iter()
                .map(|(symbol, _)| symbol.clone())
                .collect(),
            months: Vec::new(),
            returns: Vec::new(),
        };
        for pair in common.windows(2) {
            let [(before, old), (month, new)] = pair else {
                continue;
            };
            if month - before != 1 {
                return Err(PriceError::Gap {
                    after: month_name(*before),
                });
            }
            let returns = old.iter().zip(new).map(|(old, new)| libm::log(new / old));
            history.months.push(month_name(*month));
            history.returns.push(returns.collect());
        }
        Ok(history)
    }
}

/// Reads `Aug 1 2004`. The day does not matter, but it must be there.
fn parse_month(date: &str) -> Option<Month> {
    let mut parts = date.split(' ');
    let (month, day, year) = (parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? as Month;
    let day: u8 = day.parse().ok()?;
    let year: u16 = year.parse().ok()?;
    let whole = parts.next().is_none() && (1..=31).contains(&day);
    whole.then_some(Month::from(year) * 12 + month)
}

/// Writes `2004-08`.
fn month_name(month: Month) -> String {
    format!("{:04}-{:02}", month / 12, month % 12 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<Prices, PriceError> {
        Prices::parse(&format!("{HEADER}\n{}\n", lines.join("\n")))
    }

    #[test]
    fn only_common_months_count() {
        let prices = parse(&[
            "A,Nov 1 2003,1.0",
            "A,Dec 1 2003,2.0",
            "A,Jan 1 2004,3.0",
            "B,Dec 1 2003,8.0",
            "B,Jan 1 2004,4.0",
            "B,Feb 1 2004,4.0",
        ]);
        let history = prices.unwrap().history().unwrap();
        assert_eq!(history.symbols, ["A", "B"]);
        assert_eq!(history.months, ["2004-01"]);
        assert_eq!(history.returns, [[libm::log(1.5), libm::log(0.5)]]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(Prices::parse("a,b\n"), Err(PriceError::Header));
        assert_eq!(Prices::parse(""), Err(PriceError::Header));
        assert_eq!(parse(&["A,Jan 1 2004"]), Err(PriceError::Line { line: 2 }));
        assert_eq!(
            parse(&["A,Jan 1 2004,1,2"]),
            Err(PriceError::Line { line: 2 })
        );
        for date in [
            "Jan 2004",
            "Foo 1 2004",
            "Jan 0 2004",
            "Jan 1 2004 x",
            "2004-01-01",
        ] {
            let error = PriceError::Date {
                line: 2,
                found: date.to_owned(),
            };
            assert_eq!(parse(&[&format!("A,{date},1")]), Err(error));
        }
        for price in ["", "x", "0", "-1", "NaN", "inf"] {
            let error = PriceError::Price {
                line: 2,
                found: price.to_owned(),
            };
            assert_eq!(parse(&[&format!("A,Jan 1 2004,{price}")]), Err(error));
        }
        let twice = parse(&["A,Jan 1 2004,1", "A,Jan 1 2004,1"]);
        assert_eq!(twice, Err(PriceError::Order { line: 3 }));
    }

    #[test]
    fn a_gap_and_a_single_month_have_no_history() {
        let gap = parse(&["A,Jan 1 2004,1", "A,Mar 1 2004,1"])
            .unwrap()
            .history();
        assert_eq!(
            gap,
            Err(PriceError::Gap {
                after: "2004-01".to_owned()
            })
        );
        let one = parse(&["A,Jan 1 2004,1", "B,Feb 1 2004,1"])
            .unwrap()
            .history();
        assert_eq!(one, Err(PriceError::NothingInCommon));
        assert_eq!(
            parse(&[]).unwrap().history(),
            Err(PriceError::NothingInCommon)
        );
    }
}
