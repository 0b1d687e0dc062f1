//! Captures a number and calls the closure over it: here, or on the host that is named.
#![forbid(unsafe_code)]

use anyhow::Result;
use spore_client::{Host, embedded_bundle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let host = match std::env::args().nth(1) {
        Some(name) => Host::connect(&name).await?,
        None => Host::embedded()?,
    };
    let triple = embedded_bundle!("closure")
        .callable(closure::scale::HANDLE)?
        .capture(&3.0)?;

    let answer = host.call(&triple, (14.0,)).await?;

    println!("3 captured, 14 sent: {answer}");
    Ok(())
}
