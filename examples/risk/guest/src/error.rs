//! Why a risk could not be computed.

use std::fmt;

use spore_guest::Value;

/// Why a risk could not be computed.
#[derive(Value, Clone, Debug, PartialEq)]
pub enum RiskError {
    /// The portfolio has no positions.
    EmptyPortfolio,
    /// The portfolio has a position in something that the history does not know.
    UnknownSymbol {
        /// The symbol
        symbol: String,
        /// The symbols that the history has
        known: Vec<String>,
    },
    /// The portfolio has two positions in one symbol.
    RepeatedSymbol {
        /// The symbol
        symbol: String,
    },
    /// The amount of a position is infinite or not a number.
    BadAmount {
        /// The symbol
        symbol: String,
        /// The amount
        amount: f64,
    },
    /// The history has too few months.
    ShortHistory {
        /// The months it has
        months: u32,
        /// The months that are needed
        needed: u32,
    },
    /// A month of the history has not one return for each symbol.
    RaggedHistory {
        /// Position of the month, from 0
        month: u32,
        /// Its returns
        found: u32,
        /// The symbols
        expected: u32,
    },
    /// A return is infinite or not a number.
    BadReturn {
        /// Position of the month, from 0
        month: u32,
        /// The symbol
        symbol: String,
    },
    /// The returns of a position follow from those of the positions before it, so that there is no
    /// Cholesky factor of their covariances.
    SingularCovariance {
        /// The symbol of the position
        symbol: String,
        /// The variance that the positions before it leave unexplained
        unexplained: f64,
    },
    /// No paths, or more than there may be.
    BadPaths {
        /// The paths asked for
        paths: u32,
        /// The most there may be
        limit: u32,
    },
}

impl fmt::Display for RiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPortfolio => f.write_str("the portfolio has no positions"),
            Self::UnknownSymbol { symbol, known } => {
                write!(
                    f,
                    "no history of {symbol}; there is one of {}",
                    known.join(", ")
                )
            }
            Self::RepeatedSymbol { symbol } => write!(f, "two positions in {symbol}"),
            Self::BadAmount { symbol, amount } => write!(f, "amount {amount} of {symbol}"),
            Self::ShortHistory { months, needed } => {
                write!(f, "{months} months of history, {needed} are needed")
            }
            Self::RaggedHistory {
                month,
                found,
                expected,
            } => {
                write!(
                    f,
                    "month {month} has {found} returns, there are {expected} symbols"
                )
            }
            Self::BadReturn { month, symbol } => {
                write!(
                    f,
                    "return of {symbol} in month {month} is not a finite number"
                )
            }
            Self::SingularCovariance {
                symbol,
                unexplained,
            } => write!(
                f,
                "returns of {symbol} follow from those of other positions ({unexplained:e} left)"
            ),
            Self::BadPaths { paths, limit } => {
                write!(f, "{paths} paths, where 1 to {limit} are simulated")
            }
        }
    }
}

impl std::error::Error for RiskError {}
