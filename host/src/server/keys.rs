//! `authorized_keys`, read again when the file changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use spore_transport::AuthorizedKeys;
use spore_transport::authorized_keys::AuthorizedKeysError;
use tokio::sync::watch;

/// Time between looks at the file: how long a revoked key may still be served, and twice that when
/// nothing is left in the file.
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
/// editor locks nobody out. One that was removed, or is empty, revokes every key.
pub(crate) fn watch(path: PathBuf, background: &tokio::runtime::Handle) -> Result<Keys, KeysError> {
    let mut watched = Watched::new(path);
    let (sender, receiver) = watch::channel(Arc::new(read(&watched.path)?));
    watched.note_read();
    background.spawn(async move {
        while !sender.is_closed() {
            tokio::time::sleep(LOOK_INTERVAL).await;
            match watched.look() {
                None => {}
                Some(Ok(keys)) => {
                    tracing::info!(keys = keys.len(), "authorized_keys read again");
                    sender.send_replace(Arc::new(keys));
                    watched.note_read();
                }
                Some(Err(error)) => {
                    tracing::error!(%error, "authorized_keys not used; the last one holds")
                }
            }
        }
    });
    Ok(receiver)
}

/// Whether the host that keeps to this file has read it as it is now, and goes by it. Which state of
/// the file it has read, a host notes beside it, in `authorized_keys.read`.
pub fn is_read(path: &Path) -> bool {
    let noted = std::fs::read_to_string(noted_path(path));
    noted.is_ok_and(|noted| noted == note(stamp(path)))
}

fn noted_path(path: &Path) -> PathBuf {
    path.with_extension("read")
}

fn note(stamp: Option<Stamp>) -> String {
    match stamp {
        None => "no file\n".to_owned(),
        Some((modified, len, inode)) => {
            let since = modified.duration_since(std::time::UNIX_EPOCH);
            let ns = since.map_or(0, |since| since.as_nanos());
            format!("modified {ns} ns, {len} bytes, inode {inode}\n")
        }
    }
}

/// A file that is looked at now and then.
struct Watched {
    path: PathBuf,
    seen: Option<Stamp>,
    /// Whether the last look found no key in it.
    emptied: bool,
}

impl Watched {
    /// The file as it is now, which whoever calls this reads next.
    fn new(path: PathBuf) -> Watched {
        Watched {
            seen: stamp(&path),
            path,
            emptied: false,
        }
    }

    /// Notes which state of the file holds, for [`is_read`].
    fn note_read(&self) {
        let path = noted_path(&self.path);
        if let Err(error) = std::fs::write(&path, note(self.seen)) {
            let path = path.display();
            tracing::error!(%path, %error, "`spore key` cannot see that authorized_keys was read");
        }
    }

    /// Reads the file if it has changed since it was read last.
    ///
    /// One without a key is believed at the second look only: an editor that empties a file before
    /// it writes would close every connection.
    fn look(&mut self) -> Option<Result<AuthorizedKeys, KeysError>> {
        let now = stamp(&self.path);
        if now == self.seen {
            self.emptied = false;
            return None;
        }
        let keys = read(&self.path);
        let empty = keys.as_ref().is_ok_and(AuthorizedKeys::is_empty);
        if empty && !self.emptied {
            self.emptied = true;
            return None;
        }
        self.emptied = false;
        self.seen = now;
        Some(keys)
    }
}

/// What changes when the file does. The inode tells a file that was replaced within one tick of
/// the clock and has the same length.
type Stamp = (std::time::SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}

#[cfg(test)]
mod tests {
    use spore_transport::Identity;

    use super::*;

    /// How many keys a look finds, if it finds a change.
    fn look(watched: &mut Watched) -> Option<usize> {
        Some(watched.look()?.expect("a good file").len())
    }

    #[test]
    fn a_file_that_is_empty_for_a_moment_revokes_nobody() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("authorized_keys");
        let line = || format!("{}\n", Identity::generate().public());
        let write = |text: &str| std::fs::write(&path, text).expect("written");
        write(&line());
        let mut watched = Watched::new(path.clone());
        assert_eq!(look(&mut watched), None);
        for _ in 0..2 {
            write("");
            assert_eq!(look(&mut watched), None, "an editor may be about to write");
            write(&(line() + &line()));
            assert_eq!(look(&mut watched), Some(2));
            std::fs::remove_file(&path).expect("it is there");
            assert_eq!(look(&mut watched), None, "an editor may be about to rename");
            write(&line());
            assert_eq!(look(&mut watched), Some(1));
        }
        write("");
        assert_eq!(look(&mut watched), None);
        assert_eq!(look(&mut watched), Some(0), "it stayed so");
        assert_eq!(look(&mut watched), None, "it is the same");
    }
}
