//! Where a user's identity, known hosts, configuration and stores live.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `identity.pem` | the user's key, made when it is first needed |
//! | `host.pem` | the key of a host that this user runs |
//! | `known_hosts` | keys of hosts, pinned |
//! | `authorized_keys` | keys that a host of this user serves |
//! | `spore.toml` | configuration of such a host |
//! | `host.lock` | nothing; a running host holds it |
//! | `known_hosts.lock`, `authorized_keys.lock` | nothing; who edits the file holds it |
//! | `store/` | its blobs |
//! | `kept/` | sessions and jobs that it keeps |
//! | `sessions/` | sessions that the user keeps without a host |
//!
//! All under `SPORE_HOME` when it is set; otherwise the folders in the XDG folder of data, the
//! files in that of configuration. `store/`, `kept/` and `sessions/` have a file
//! `lock`, which whoever uses them holds.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use spore_transport::identity::IdentityError;
use spore_transport::known_hosts::{self, KnownHosts, KnownHostsError};
use spore_transport::{Identity, PublicKey};

/// The environment variable that puts everything in one folder.
pub const HOME_VARIABLE: &str = "SPORE_HOME";

/// How long [`Home::lock_host`] tries. Who looks whether a host runs holds the lock for an instant,
/// and must not keep one from starting.
const LOCK_TIME: Duration = Duration::from_secs(1);

/// The folders of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    config: PathBuf,
    data: PathBuf,
}

/// Why a file of the user's could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// There is no home directory to derive the folders from.
    #[error("no home directory; set {HOME_VARIABLE} to a folder")]
    NoHome,
    /// A file could not be read or written.
    #[error("{path}")]
    Io {
        /// The file or folder
        path: PathBuf,
        /// What the system says
        #[source]
        source: std::io::Error,
    },
    /// A key file is no key.
    #[error("{path} holds no usable key")]
    Identity {
        /// The file
        path: PathBuf,
        /// What is wrong with it
        #[source]
        source: IdentityError,
    },
    /// A key file can be read by others.
    #[error("{path} can be read by others than its owner (mode {mode:o}); run: chmod 600 {path}")]
    Permissions {
        /// The file
        path: PathBuf,
        /// Its permissions
        mode: u32,
    },
    /// A line of `known_hosts` is wrong.
    #[error("{path}: {source}")]
    KnownHosts {
        /// The file
        path: PathBuf,
        /// The line and what is wrong
        source: KnownHostsError,
    },
    /// A host of this user runs, and there is one at a time.
    #[error("a host of this user is running already: it holds {path}")]
    HostRuns {
        /// The lock
        path: PathBuf,
    },
}

/// Says that a host of this user runs, until it is dropped or the process has ended in any way.
#[derive(Debug)]
pub struct HostLock {
    _file: File,
}

impl Home {
    /// The folders that the environment names.
    ///
    /// # Errors
    ///
    /// When there is neither `SPORE_HOME` nor a home directory.
    pub fn from_environment() -> Result<Home, HomeError> {
        if let Some(folder) = std::env::var_os(HOME_VARIABLE).filter(|folder| !folder.is_empty()) {
            return Ok(Home::at(folder));
        }
        let folders = etcetera::choose_base_strategy().map_err(|_| HomeError::NoHome)?;
        Ok(Home {
            config: folders.config_dir().join("spore"),
            data: folders.data_dir().join("spore"),
        })
    }

    /// Everything in one folder.
    pub fn at(folder: impl Into<PathBuf>) -> Home {
        let folder = folder.into();
        Home {
            config: folder.clone(),
            data: folder,
        }
    }

    /// Where the user's own key is.
    pub fn identity_path(&self) -> PathBuf {
        self.config.join("identity.pem")
    }

    /// Where the key of a host run by this user is.
    pub fn host_identity_path(&self) -> PathBuf {
        self.config.join("host.pem")
    }

    /// Where the keys are that such a host serves.
    pub fn authorized_keys_path(&self) -> PathBuf {
        self.config.join("authorized_keys")
    }

    /// Where pinned keys of hosts are.
    pub fn known_hosts_path(&self) -> PathBuf {
        self.config.join("known_hosts")
    }

    /// Where the configuration of a host is.
    pub fn config_path(&self) -> PathBuf {
        self.config.join("spore.toml")
    }

    /// Where the lock of a running host is.
    pub fn host_lock_path(&self) -> PathBuf {
        self.config.join("host.lock")
    }

    /// The folder of a host's blobs.
    pub fn store_path(&self) -> PathBuf {
        self.data.join("store")
    }

    /// The folder of sessions and jobs that a host keeps.
    pub fn kept_path(&self) -> PathBuf {
        self.data.join("kept")
    }

    /// The folder of sessions that the user keeps without a host.
    pub fn sessions_path(&self) -> PathBuf {
        self.data.join("sessions")
    }

    /// The user's key, made now if there is none.
    ///
    /// # Errors
    ///
    /// When the file cannot be used, or others can read it.
    pub fn identity(&self) -> Result<Identity, HomeError> {
        identity(&self.identity_path())
    }

    /// The key of the user's host, made now if there is none.
    ///
    /// # Errors
    ///
    /// When the file cannot be used, or others can read it.
    pub fn host_identity(&self) -> Result<Identity, HomeError> {
        identity(&self.host_identity_path())
    }

    /// Replaces the user's key by a new one.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn renew_identity(&self) -> Result<Identity, HomeError> {
        let identity = Identity::generate();
        write_private(&self.identity_path(), &identity.to_pem())?;
        Ok(identity)
    }

    /// Replaces the key of the user's host by a new one. Clients that know the old one then refuse
    /// the host until they trust it anew.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn renew_host_identity(&self) -> Result<Identity, HomeError> {
        let identity = Identity::generate();
        write_private(&self.host_identity_path(), &identity.to_pem())?;
        Ok(identity)
    }

    /// Lets others know that a host of this user runs: to be held before it reads
    /// `authorized_keys`, and as long as it serves. Blocks, mostly for no time.
    ///
    /// # Errors
    ///
    /// When one runs already, or the file cannot be written.
    pub fn lock_host(&self) -> Result<HostLock, HomeError> {
        const LOOK: Duration = Duration::from_millis(10);
        let path = self.host_lock_path();
        let failed = |source| HomeError::Io {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(&self.config).map_err(failed)?;
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        // Who may open a file may lock it.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(HostLock { _file: file }),
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_TIME => {
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::WouldBlock) => return Err(HomeError::HostRuns { path }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// Whether a host of this user runs. Where that cannot be told, it is said to.
    pub fn host_runs(&self) -> bool {
        match File::open(self.host_lock_path()) {
            Ok(file) => file.try_lock_shared().is_err(),
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    /// The hosts that are known.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or a line of it is wrong.
    pub fn known_hosts(&self) -> Result<KnownHosts, HomeError> {
        let path = self.known_hosts_path();
        let text = read_or_empty(&path)?;
        KnownHosts::parse(&text).map_err(|source| HomeError::KnownHosts { path, source })
    }

    /// Pins a host's key, in place of another that it may have had.
    ///
    /// # Errors
    ///
    /// When the file cannot be written, or a line of it is wrong.
    pub fn pin_host(&self, host: &str, key: &PublicKey) -> Result<(), HomeError> {
        let path = self.known_hosts_path();
        edit_private(&path, |old| {
            let new = known_hosts::add(old, host, key);
            let new = new.map_err(|source| HomeError::KnownHosts {
                path: path.clone(),
                source,
            })?;
            Ok((Some(new), ()))
        })
    }

    /// Forgets a host's key, and says whether there was one.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn unpin_host(&self, host: &str) -> Result<bool, HomeError> {
        let path = self.known_hosts_path();
        edit_private(&path, |old| {
            let new = known_hosts::remove(old, host);
            let removed = new.is_some();
            Ok((new, removed))
        })
    }
}

/// Reads a text file of the user's, empty when it is not there.
pub fn read_or_empty(path: &Path) -> Result<String, HomeError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(HomeError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads a file of the user's, empty when it is not there, and replaces it with what `edit` makes of
/// it; nothing when it makes nothing. One after the other: of two commands that edit the same file at
/// the same time neither takes back what the other has done. Gives what `edit` gives besides.
///
/// # Errors
///
/// When the file cannot be read or written, or with what `edit` fails with.
pub fn edit_private<T, E: From<HomeError>>(
    path: &Path,
    edit: impl FnOnce(&str) -> Result<(Option<String>, T), E>,
) -> Result<T, E> {
    let lock_path = path.with_added_extension("lock");
    let failed = |source| HomeError::Io {
        path: lock_path.clone(),
        source,
    };
    std::fs::create_dir_all(folder_of(path)).map_err(failed)?;
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let lock = options.open(&lock_path).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let (new, given) = edit(&read_or_empty(path)?)?;
    if let Some(new) = new {
        write_private(path, &new)?;
    }
    Ok(given)
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .expect("a file of the user's lies in a folder")
}

/// Replaces a file that only its owner may read: whole or not at all, and there to stay once this
/// returns.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<(), HomeError> {
    write_file(path, text, |file| file.persist(path))
}

fn write_file(
    path: &Path,
    text: &str,
    persist: impl FnOnce(tempfile::NamedTempFile) -> Result<File, tempfile::PersistError>,
) -> Result<(), HomeError> {
    let failed = |source| HomeError::Io {
        path: path.to_owned(),
        source,
    };
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(failed)?;
    // A temporary file is readable by its owner only.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    persist(file).map_err(|error| failed(error.error))?;
    let folder = File::open(folder).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

fn identity(path: &Path) -> Result<Identity, HomeError> {
    let text = read_or_empty(path)?;
    if text.is_empty() {
        let made = Identity::generate();
        let written = write_file(path, &made.to_pem(), |file| file.persist_noclobber(path));
        return match written {
            // Another command was faster, and may have shown its key to somebody.
            Err(HomeError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {
                identity(path)
            }
            written => written.map(|()| made),
        };
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let data = std::fs::metadata(path);
        let data = data.map_err(|source| HomeError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mode = data.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(HomeError::Permissions {
                path: path.to_owned(),
                mode,
            });
        }
    }
    Identity::from_pem(&text).map_err(|source| HomeError::Identity {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let home = Home::at(folder.path().join("new"));
        let first = home.identity().expect("made").public();
        assert_eq!(home.identity().expect("kept").public(), first);
        let path = home.identity_path();
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode(&path) & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("set");
        assert!(matches!(
            home.identity(),
            Err(HomeError::Permissions { mode: 0o644, .. })
        ));
        assert_ne!(home.renew_identity().expect("made").public(), first);
    }

    #[test]
    fn a_running_host_is_told_from_one_that_has_ended() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let home = Home::at(folder.path().join("new"));
        assert!(!home.host_runs());
        let lock = home.lock_host().expect("none runs");
        assert!(home.host_runs() && home.host_runs());
        assert!(matches!(home.lock_host(), Err(HomeError::HostRuns { .. })));
        let data = std::fs::metadata(home.host_lock_path()).expect("there");
        assert_eq!(data.permissions().mode() & 0o777, 0o600);
        drop(lock);
        assert!(!home.host_runs());
        home.lock_host().expect("none runs any more");
    }

    #[test]
    fn a_look_keeps_no_host_from_starting() {
        let folder = tempfile::tempdir().expect("folder");
        let home = Home::at(folder.path());
        drop(home.lock_host().expect("none runs"));
        let look = File::open(home.host_lock_path()).expect("there");
        look.try_lock_shared().expect("none runs");
        assert!(!home.host_runs(), "nor another look");
        let looking = std::thread::spawn(move || {
            std::thread::sleep(LOCK_TIME / 10);
            drop(look);
        });
        home.lock_host().expect("it waits for the look");
        looking.join().expect("no panic");
    }

    #[test]
    fn a_pinned_host_is_known_until_it_is_unpinned() {
        let folder = tempfile::tempdir().expect("folder");
        let home = Home::at(folder.path());
        let key = Identity::generate().public();
        home.pin_host("board.local:7473", &key).expect("written");
        assert_eq!(
            home.known_hosts().expect("read").pinned("board.local:7473"),
            Some(key)
        );
        assert!(home.unpin_host("Board.local:7473").expect("written"));
        assert!(!home.unpin_host("board.local:7473").expect("read"));
        let known = home.known_hosts().expect("read");
        assert_eq!(known.pinned("board.local:7473"), None);
    }
}
