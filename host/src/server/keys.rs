//! `authorized_keys`, read again when the file changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spore_transport::AuthorizedKeys;
use spore_transport::authorized_keys::AuthorizedKeysError;
use tokio::sync::watch;

/// Time between looks at the file: how long a revoked key may still be served.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Why `authorized_keys` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file
        path: PathBuf,
        /// What the system says
        #[source]
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{path}, {problem}")]
    Line {
        /// The file
        path: PathBuf,
        /// The line and what is wrong with it
        problem: AuthorizedKeysError,
    },
}

/// The keys as they are now, and word of changes.
pub(crate) type Keys = watch::Receiver<Arc<AuthorizedKeys>>;

/// Reads the file. One that is not there authorises no one.
pub(crate) fn read(path: &Path) -> Result<AuthorizedKeys, KeysError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(KeysError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    AuthorizedKeys::parse(&text).map_err(|problem| KeysError::Line {
        path: path.to_owned(),
        problem,
    })
}

/// Reads the file now, and again whenever it has changed, until the receivers are gone.
///
/// A file that cannot be used later leaves the keys as they were and is logged: a slip of the
/// editor locks nobody out. One that was removed revokes every key.
pub(crate) fn watch(path: PathBuf, background: &tokio::runtime::Handle) -> Result<Keys, KeysError> {
    let mut seen = stamp(&path);
    let (sender, receiver) = watch::channel(Arc::new(read(&path)?));
    background.spawn(async move {
        while !sender.is_closed() {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = stamp(&path);
            if now == seen {
                continue;
            }
            seen = now;
            match read(&path) {
                Ok(keys) => {
                    tracing::info!(keys = keys.len(), "authorized_keys read again");
                    sender.send_replace(Arc::new(keys));
                }
                Err(error) => {
                    tracing::error!(%error, "authorized_keys not used; the last one holds")
                }
            }
        }
    });
    Ok(receiver)
}

/// What changes when the file does. The inode tells a file that was replaced within one tick of
/// the clock and has the same length.
fn stamp(path: &Path) -> Option<(std::time::SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}
