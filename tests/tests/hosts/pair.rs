//! Two hosts that serve one client, and what may happen to them.

use spore_client::Host;
use spore_tests::Process;
use spore_tests::door::Door;

/// What breaks a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Source,
    Target,
    Both,
    /// Its client alone, which goes away wherever it is.
    Client,
}

pub(crate) struct Pair {
    pub(crate) source: Process,
    pub(crate) target: Process,
}

impl Pair {
    pub(crate) async fn start(configuration: &str) -> Pair {
        let source = Process::start(configuration, &[""]);
        let target = Process::start(configuration, &[]);
        target.authorize(&source.clients[0]).await;
        Pair { source, target }
    }

    /// New connections to both, of the one client.
    pub(crate) async fn connect(&self) -> [Host; 2] {
        [
            connect(&self.source, &self.source).await,
            connect(&self.target, &self.source).await,
        ]
    }

    pub(crate) fn kill(&mut self, what: Broken) {
        if matches!(what, Broken::Source | Broken::Both) {
            self.source.kill();
        }
        if matches!(what, Broken::Target | Broken::Both) {
            self.target.kill();
        }
    }

    pub(crate) fn restart(&mut self, what: Broken) {
        if matches!(what, Broken::Source | Broken::Both) {
            self.source.restart();
        }
        if matches!(what, Broken::Target | Broken::Both) {
            self.target.restart();
        }
    }
}

async fn connect(door: &Door, client: &Door) -> Host {
    door.connect_by(door.address, &client.clients[0]).await
}
