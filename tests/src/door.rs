//! The way to a host that listens.

use std::net::SocketAddr;
use std::time::Duration;

use spore_client::{Connect, ConnectError, Home, Host, Identity, PublicKey};
use spore_transport::quic::Options;
use spore_transport::{Connection, Connector};
use tempfile::TempDir;

use crate::outcome::soon;

/// Time between two attempts to come in where one may not yet: each has one of the few places of its
/// address for a second.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// Where a host listens, who it is, and who may come.
#[derive(Debug)]
pub struct Door {
    /// Where it listens
    pub address: SocketAddr,
    /// Its key
    pub key: PublicKey,
    /// The identities that it serves
    pub clients: Vec<Identity>,
    /// Its folder
    pub folder: TempDir,
    /// Times and windows of connections to it
    pub(crate) options: Options,
}

impl Door {
    /// A folder for a host, which serves a new identity for each line of options.
    pub(crate) fn prepare(options: &[&str]) -> Door {
        let folder = tempfile::tempdir().expect("a folder for tests");
        let home = Home::at(folder.path());
        let key = home
            .host_identity()
            .expect("the folder is writable")
            .public();
        let clients: Vec<Identity> = options.iter().map(|_| Identity::generate()).collect();
        let lines = clients.iter().zip(options);
        let text: String = lines
            .map(|(client, options)| format!("{} {options}\n", client.public()))
            .collect();
        let door = Door {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            key,
            clients,
            folder,
            options: Options::default(),
        };
        door.write_authorized_keys(&text);
        door
    }

    /// The host's files.
    pub fn home(&self) -> Home {
        Home::at(self.folder.path())
    }

    /// Replaces `authorized_keys` as a whole, which the host sees a little later.
    pub fn write_authorized_keys(&self, text: &str) {
        let path = self.home().authorized_keys_path();
        spore_client::write_private(&path, text).expect("the folder is writable");
    }

    /// Has a running host serve this identity alone, and connects as it.
    ///
    /// # Panics
    ///
    /// When the host does not serve it soon.
    pub async fn authorize(&self, client: &Identity) -> Host {
        self.write_authorized_keys(&format!("{}\n", client.public()));
        let address = self.address.to_string();
        let served = async {
            loop {
                let connect = Connect::new().identity(copy(client)).trust(self.key);
                // Whether it serves is not known before something was asked.
                if let Ok(host) = connect.to(&address).await
                    && host.status().await.is_ok()
                {
                    return host;
                }
                tokio::time::sleep(ATTEMPT_PAUSE).await;
            }
        };
        soon("the host serves the key", served).await
    }

    /// How to connect as the client of this number.
    pub fn as_client(&self, number: usize) -> Connect {
        Connect::new()
            .identity(copy(&self.clients[number]))
            .trust(self.key)
            .idle_timeout(self.options.idle_timeout)
    }

    /// Connects as the client of this number.
    ///
    /// # Errors
    ///
    /// As the client's.
    pub async fn try_connect(&self, number: usize) -> Result<Host, ConnectError> {
        self.as_client(number).to(&self.address.to_string()).await
    }

    /// Connects as the client of this number.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub async fn connect(&self, number: usize) -> Host {
        self.try_connect(number)
            .await
            .expect("the host serves this key")
    }

    /// A bare connection as the client of this number, for a client that lies.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn connection(&self, number: usize) -> Connection {
        self.connection_with(number, &self.options).await
    }

    /// The same with windows and times.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn connection_with(&self, number: usize, options: &Options) -> Connection {
        let connector = Connector::new(&self.clients[number], options).expect("a free port");
        let connection = connector
            .connect(self.address)
            .await
            .expect("the host listens");
        assert_eq!(connection.peer(), self.key);
        connection
    }

    /// The host to this client, which is served here, by way of an address.
    ///
    /// # Panics
    ///
    /// When it does not serve it.
    pub async fn connect_by(&self, address: SocketAddr, client: &Identity) -> Host {
        let connect = Connect::new().identity(copy(client)).trust(self.key);
        let host = soon("the host serves", connect.to(&address.to_string())).await;
        host.expect("it serves this key")
    }
}

/// The same identity again.
pub fn copy(identity: &Identity) -> Identity {
    Identity::from_pem(&identity.to_pem()).expect("it was written by its like")
}
