//! quinn alone: the product's endpoints, with its settings and keys, and no protocol on them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use spore_transport::quic::Options;
use spore_transport::{Connector, Identity, Listener};

use crate::child::{self, Child};

/// First byte of a request whose bytes come back.
const ECHO: u8 = 0;
/// First byte of a request whose bytes are taken, and their count comes back.
const TAKE: u8 = 1;

/// As the product has it by default, but for the time-out: this side may compute for long.
fn options() -> Options {
    Options {
        idle_timeout: Duration::from_secs(120),
        ..Options::default()
    }
}

/// The other end, in a process of its own.
pub(crate) fn serve() -> Result<()> {
    child::runtime()?.block_on(async {
        let any = ([127, 0, 0, 1], 0).into();
        let listener = Listener::bind(any, &Identity::generate(), &options())?;
        child::announce(listener.local_address()?)?;
        let (endpoint, config) = listener.into_quinn();
        let mut dismissed = child::dismissed();
        loop {
            tokio::select! {
                incoming = endpoint.accept() => {
                    let incoming = incoming.context("the endpoint ended")?;
                    let connecting = incoming.accept_with(config.clone())?;
                    tokio::spawn(async move {
                        let connection = connecting.await?;
                        loop {
                            let (send, receive) = connection.accept_bi().await?;
                            tokio::spawn(answer(send, receive));
                        }
                        #[allow(unreachable_code, reason = "it says what the task returns")]
                        anyhow::Ok(())
                    });
                }
                _ = &mut dismissed => return Ok(()),
            }
        }
    })
}

async fn answer(mut send: SendStream, mut receive: RecvStream) -> Result<()> {
    let mut chunk = receive
        .read_chunk(usize::MAX, true)
        .await?
        .context("no request")?;
    if chunk.bytes.first() == Some(&ECHO) {
        loop {
            send.write_chunk(chunk.bytes).await?;
            match receive.read_chunk(usize::MAX, true).await? {
                Some(next) => chunk = next,
                None => break,
            }
        }
    } else {
        let mut taken = chunk.bytes.len() as u64;
        let mut chunks = [const { Bytes::new() }; 16];
        while let Some(count) = receive.read_chunks(&mut chunks).await? {
            taken += chunks[..count]
                .iter()
                .map(|chunk| chunk.len() as u64)
                .sum::<u64>();
        }
        send.write_all(&taken.to_le_bytes()).await?;
    }
    send.finish()?;
    Ok(())
}

/// This end, connected to the other.
pub(crate) struct Echo {
    connection: Connection,
    _child: Child,
}

impl Echo {
    /// Starts the other end and connects to it. Call it on the runtime that is to do the I/O.
    pub(crate) async fn start() -> Result<Echo> {
        let child = Child::start(&[child::ECHO])?;
        let (endpoint, config) = Connector::new(&Identity::generate(), &options())?.into_quinn();
        let connection = endpoint
            .connect_with(config, child.address, "spore")?
            .await?;
        Ok(Echo {
            connection,
            _child: child,
        })
    }

    /// Sends bytes on a stream of their own and takes them back.
    pub(crate) async fn echo(&self, length: usize) -> Result<()> {
        echo(&self.connection, length).await
    }

    /// Requests a second, `flight` at a time, for this long.
    pub(crate) async fn rate(&self, length: usize, flight: usize, time: Duration) -> Result<f64> {
        let began = Instant::now();
        let work = (0..flight).map(|_| {
            let connection = self.connection.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while began.elapsed() < time {
                    echo(&connection, length).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            })
        });
        let mut count = 0;
        for work in work.collect::<Vec<_>>() {
            count += work.await??;
        }
        Ok(f64::from(count) / began.elapsed().as_secs_f64())
    }

    /// Sends bytes on a stream of their own; how long until the other end says that it has them.
    pub(crate) async fn transfer(&self, bytes: Bytes) -> Result<Duration> {
        let began = Instant::now();
        let (mut send, mut receive) = self.connection.open_bi().await?;
        let expected = 1 + bytes.len() as u64;
        send.write_all(&[TAKE]).await?;
        send.write_chunk(bytes).await?;
        send.finish()?;
        let taken = receive.read_to_end(8).await?;
        ensure!(taken == expected.to_le_bytes(), "bytes were lost");
        Ok(began.elapsed())
    }
}

async fn echo(connection: &Connection, length: usize) -> Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_chunk(Bytes::from(vec![ECHO; length])).await?;
    send.finish()?;
    let mut back = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        back += chunk.bytes.len();
    }
    ensure!(back == length, "{back} of {length} bytes came back");
    Ok(())
}
