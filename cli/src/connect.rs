//! Connecting to a host, and asking whether to trust a new one.

use std::io::{self, IsTerminal};

use spore_client::{Connect, ConnectError, Home, Host, PublicKey};

use crate::arguments::Trust;
use crate::exit::{self, Exit, Failure, OrExit};
use crate::output;

/// The folders of the user.
pub(crate) fn home() -> Result<Home, Failure> {
    Ok(Home::from_environment()?)
}

/// A runtime for one command. Connections are driven by the thread that waits on it.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::Local)
}

/// Connects as the user. The first time, the host's key is shown on a terminal and asked about;
/// elsewhere it must be given.
pub(crate) async fn connect(host: &str, trust: Trust) -> Result<Host, Failure> {
    connect_or(host, trust, |key| format!(", or add: --trust {key}")).await
}

/// The same for a host whose key the command does not take.
pub(crate) async fn connect_known(host: &str) -> Result<Host, Failure> {
    connect_or(host, Trust { key: None }, |_| String::new()).await
}

/// `or` is what may be done instead of trusting a host that is not known.
async fn connect_or(
    host: &str,
    trust: Trust,
    or: impl Fn(&PublicKey) -> String,
) -> Result<Host, Failure> {
    let connect = |key: Option<PublicKey>| async move {
        let connect = Connect::new();
        match key {
            Some(key) => connect.trust(key).to(host).await,
            None => connect.to(host).await,
        }
    };
    match connect(trust.key).await {
        Err(ConnectError::UnknownHost { host, key }) if may_ask() && ask(&host, &key)? => {
            Ok(connect(Some(key)).await?)
        }
        Err(ConnectError::UnknownHost { host, key }) => {
            Err(exit::unknown_host(&host, &key, &or(&key)))
        }
        connected => Ok(connected?),
    }
}

fn may_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on the terminal. Only a plain yes is one.
fn ask(host: &str, key: &PublicKey) -> Result<bool, Failure> {
    let question = format!(
        "{} is not known here. Its key is\n\n  {key}\n\nCompare it with what `spore key show \
         --host` prints on that machine. Trust it from now on? [y/N] ",
        output::plain(host)
    );
    output::to_stderr(question.as_bytes());
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).or_exit(Exit::Local)?;
    Ok(matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "y" | "yes"
    ))
}
