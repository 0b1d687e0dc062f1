//! Items of a callable that emits them, as they come.

use serde_json::{Value as Json, json};
use spore_client::{CallError, Items, StreamCall};

use crate::exit::Failure;
use crate::screen::Screen;

/// What came of items that were printed.
pub(crate) struct Printed {
    /// How the call ended, unless nobody read its items to the end
    pub(crate) ended: Option<Result<(), CallError<Json>>>,
    /// The items, when there were any
    pub(crate) items: Option<Items<Json, Json>>,
}

/// Prints items until the last, or until nobody reads them: a line of JSON each, with its number when
/// scripts are to read it.
///
/// # Errors
///
/// When they cannot be written.
pub(crate) async fn print(
    call: StreamCall<Json, Json>,
    screen: &Screen,
    numbered: bool,
) -> Result<Printed, Failure> {
    let mut items = match call.await {
        Ok(items) => items,
        Err(error) => {
            return Ok(Printed {
                ended: Some(Err(error)),
                items: None,
            });
        }
    };
    for sequence in 0_u64.. {
        let item = match items.next().await {
            None => break,
            Some(Ok(item)) => item,
            Some(Err(error)) => {
                return Ok(Printed {
                    ended: Some(Err(error)),
                    items: Some(items),
                });
            }
        };
        let line = match numbered {
            true => json!({ "item": item, "sequence": sequence }),
            false => item,
        };
        if !screen.print_json(&line)? {
            return Ok(Printed {
                ended: None,
                items: Some(items),
            });
        }
    }
    Ok(Printed {
        ended: Some(Ok(())),
        items: Some(items),
    })
}
