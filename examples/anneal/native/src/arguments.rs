//! What stands on the command line.

use anyhow::{Context, Result, bail, ensure};
use spore_client::Host;

/// Steps of the search, unless given: some seconds of work.
const STEPS_DEFAULT: u64 = 20_000_000;

const USAGE: &str = "usage: anneal-example [--steps N] [HOST | --from HOST --to HOST …]";

pub(crate) struct Arguments {
    pub(crate) steps: u64,
    pub(crate) route: Route,
}

/// Where the job runs, one place after the other.
pub(crate) enum Route {
    /// On one host, stopped half-way and opened again from a file; without a name on two in this
    /// process.
    Saved { host: Option<String> },
    /// From the first host to the next while it runs, and so on.
    Moved { hosts: Vec<String> },
}

/// A host, and what it is called here.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) host: Host,
}

impl Arguments {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
        let (mut steps, mut host) = (STEPS_DEFAULT, None);
        let (mut from, mut to) = (None, Vec::new());
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} what? {USAGE}"))
            };
            match word.as_str() {
                "--steps" => steps = value()?.parse().context("--steps takes a number")?,
                "--from" => from = Some(value()?),
                "--to" => to.push(value()?),
                _ if word.starts_with('-') || host.is_some() => bail!("{word}? {USAGE}"),
                _ => host = Some(word),
            }
        }
        ensure!(steps > 0, "there is nothing to show in 0 steps");
        let route = match (host, from) {
            (host, None) if to.is_empty() => Route::Saved { host },
            (None, Some(from)) if !to.is_empty() => {
                to.insert(0, from);
                Route::Moved { hosts: to }
            }
            _ => bail!("{USAGE}"),
        };
        Ok(Arguments { steps, route })
    }
}

impl Route {
    /// Connects to each host in turn.
    pub(crate) async fn places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        match self {
            Route::Saved { host: None } => {
                for name in ["one host", "another"] {
                    let (name, host) = (name.to_owned(), Host::embedded()?);
                    places.push(Place { name, host });
                }
            }
            Route::Saved { host: Some(name) } => {
                let host = connect(name).await?;
                for host in [host.clone(), host] {
                    let name = name.clone();
                    places.push(Place { name, host });
                }
            }
            Route::Moved { hosts } => {
                for name in hosts {
                    let (name, host) = (name.clone(), connect(name).await?);
                    places.push(Place { name, host });
                }
            }
        }
        Ok(places)
    }
}

async fn connect(name: &str) -> Result<Host> {
    let host = Host::connect(name).await;
    host.with_context(|| format!("cannot use {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_route_is_one_host_or_none_or_a_way_between_hosts() {
        let Arguments { steps, route } = read("").expect("good");
        assert_eq!(steps, STEPS_DEFAULT);
        assert!(matches!(route, Route::Saved { host: None }));
        let Arguments { steps, route } = read("--steps 5 a").expect("good");
        assert_eq!(steps, 5);
        assert!(matches!(route, Route::Saved { host: Some(host) } if host == "a"));
        let route = read("--from a --to b --to a").expect("good").route;
        assert!(matches!(route, Route::Moved { hosts } if hosts == ["a", "b", "a"]));
    }

    #[test]
    fn what_makes_no_route_is_refused() {
        for wrong in [
            "a b",
            "--from a",
            "--to b",
            "--from",
            "a --to b",
            "--steps",
            "--steps x",
            "--steps 0",
            "--on a",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
