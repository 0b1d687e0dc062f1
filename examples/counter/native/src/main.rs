//! Opens a session, saves it, opens the image as a second one, and lets the two diverge: here, or on
//! the host that is named.

use anyhow::Result;
use spore_client::{Host, embedded_bundle};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let host = match std::env::args().nth(1) {
        Some(name) => Host::connect(&name).await?,
        None => Host::embedded()?,
    };
    let counter = embedded_bundle!("counter");

    let session = host.open_session(&counter).await?;
    for n in [1, 2, 3] {
        let sum = session.call(counter::add::HANDLE, (n,))?.await?;
        println!("{n} counted in: {sum}");
    }

    let image = session.save().await?;
    let changed = image
        .inner()
        .image()
        .map_or(0, |image| image.changed_bytes());
    println!("saved: {} KiB differ from a fresh instance", changed / 1024);

    let copy = host.open_session(&image).await?;
    session.call(counter::add::HANDLE, (10,))?.await?;
    copy.call(counter::add::HANDLE, (-10,))?.await?;
    let original = session.call(counter::history::HANDLE, ())?.await?;
    let copied = copy.call(counter::history::HANDLE, ())?.await?;
    println!("the original: {original:?}");
    println!("the copy:     {copied:?}");

    session.close().await?;
    copy.close().await?;
    host.close().await;
    Ok(())
}
