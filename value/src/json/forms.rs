//! The written forms of what JSON lacks: wide integers, floats that are not numbers, time.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use serde_json::{Number, Value};

/// Integers of larger magnitude are strings, since readers of JSON that have floats only would
/// change them.
const EXACT_MAX: u64 = 1 << 53;

const NAN: &str = "NaN";
const INFINITY: &str = "Infinity";
const NEGATIVE_INFINITY: &str = "-Infinity";
/// The bits of the NaN that is written without them.
const NAN_BITS_32: u32 = 0x7fc0_0000;
const NAN_BITS_64: u64 = 0x7ff8_0000_0000_0000;

pub(super) fn unsigned(number: u128) -> Value {
    match u64::try_from(number) {
        Ok(small) if small <= EXACT_MAX => Value::from(small),
        _ => Value::String(number.to_string()),
    }
}

pub(super) fn signed(number: i128) -> Value {
    match i64::try_from(number) {
        Ok(small) if small.unsigned_abs() <= EXACT_MAX => Value::from(small),
        _ => Value::String(number.to_string()),
    }
}

/// An integer, from a number without a fraction or from its digits.
pub(super) fn integer<T>(json: &Value) -> Option<T>
where
    T: TryFrom<i128> + TryFrom<u128>,
{
    match json {
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                return T::try_from(u128::from(number)).ok();
            }
            if let Some(number) = number.as_i64() {
                return T::try_from(i128::from(number)).ok();
            }
            let number = number.as_f64()?;
            let exact = number.abs() <= EXACT_MAX as f64 && number % 1.0 == 0.0;
            if exact {
                T::try_from(number as i128).ok()
            } else {
                None
            }
        }
        Value::String(text) => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            match text.parse::<i128>() {
                Ok(number) => T::try_from(number).ok(),
                Err(_) => T::try_from(text.parse::<u128>().ok()?).ok(),
            }
        }
        _ => None,
    }
}

pub(super) fn float_64(number: f64) -> Value {
    if let Some(number) = Number::from_f64(number) {
        return Value::Number(number);
    }
    Value::String(match number.to_bits() {
        NAN_BITS_64 => NAN.into(),
        bits if number.is_nan() => format!("{NAN}:{bits:016x}"),
        _ if number > 0.0 => INFINITY.into(),
        _ => NEGATIVE_INFINITY.into(),
    })
}

pub(super) fn float_32(number: f32) -> Value {
    if number.is_finite() {
        // The fewest digits that are this number among the f32, not among the f64.
        let short = number.to_string().parse::<f64>().ok();
        let short = short.filter(|short| (*short as f32).to_bits() == number.to_bits());
        return float_64(short.unwrap_or_else(|| f64::from(number)));
    }
    Value::String(match number.to_bits() {
        NAN_BITS_32 => NAN.into(),
        bits if number.is_nan() => format!("{NAN}:{bits:08x}"),
        _ if number > 0.0 => INFINITY.into(),
        _ => NEGATIVE_INFINITY.into(),
    })
}

pub(super) fn to_float_64(json: &Value) -> Option<f64> {
    match json {
        Value::Number(number) => finite(number),
        Value::String(text) => match text.as_str() {
            NAN => Some(f64::from_bits(NAN_BITS_64)),
            INFINITY => Some(f64::INFINITY),
            NEGATIVE_INFINITY => Some(f64::NEG_INFINITY),
            _ => {
                let number = f64::from_bits(nan_bits(text, 16)?);
                number.is_nan().then_some(number)
            }
        },
        _ => None,
    }
}

pub(super) fn to_float_32(json: &Value) -> Option<f32> {
    match json {
        Value::Number(number) => {
            let wide = finite(number)?;
            let narrow = Some(wide as f32).filter(|narrow| narrow.is_finite())?;
            // A fraction is rounded, as everywhere; an integer is that or none.
            let is_integer = number.is_i64() || number.is_u64();
            (!is_integer || f64::from(narrow) == wide).then_some(narrow)
        }
        Value::String(text) => match text.as_str() {
            NAN => Some(f32::from_bits(NAN_BITS_32)),
            INFINITY => Some(f32::INFINITY),
            NEGATIVE_INFINITY => Some(f32::NEG_INFINITY),
            _ => {
                let number = f32::from_bits(u32::try_from(nan_bits(text, 8)?).ok()?);
                number.is_nan().then_some(number)
            }
        },
        _ => None,
    }
}

/// A number as a float. Integers that no float is are refused, not rounded.
fn finite(number: &Number) -> Option<f64> {
    let float = number.as_f64()?;
    let exact = match (number.as_u64(), number.as_i64()) {
        (Some(integer), _) => float as u128 == u128::from(integer),
        (_, Some(integer)) => float as i128 == i128::from(integer),
        _ => float.is_finite(),
    };
    exact.then_some(float)
}

fn nan_bits(text: &str, digits: usize) -> Option<u64> {
    let bits = text.strip_prefix(NAN)?.strip_prefix(':')?;
    let hexadecimal = bits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if bits.len() == digits && hexadecimal {
        u64::from_str_radix(bits, 16).ok()
    } else {
        None
    }
}

pub(super) fn duration(span: Duration) -> Value {
    let (seconds, nanos) = (span.as_secs(), span.subsec_nanos());
    if nanos == 0 {
        return Value::String(format!("{seconds}s"));
    }
    let fraction = format!("{nanos:09}");
    Value::String(format!("{seconds}.{}s", fraction.trim_end_matches('0')))
}

/// Seconds in decimal digits and `s`.
pub(super) fn to_duration(text: &str) -> Option<Duration> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let text = text.strip_suffix('s')?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: String = format!("{fraction:0<9}");
    Some(Duration::new(seconds.parse().ok()?, nanos.parse().ok()?))
}
