//! Sessions in the folder of the user's data, between one command and the next.
//!
//! ```text
//! sessions/ID/lock        locked by the command that uses the session
//! sessions/ID/now.spore   a bundle with the image of what it is now
//! sessions/ID/saved.spore what it was last saved as
//! sessions/ID/poisoned    why it cannot go on; there when a call did not come to its end
//! sessions/ID/held        where it comes from, until it was given up there: a session, a key and the
//!                         bundle that it arrived as
//! ```
//!
//! Each file is written beside its place and renamed: a command that is killed leaves the session as
//! it was before.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use spore_client::{
    Bundle, BundleId, Home, Origin, PublicKey, SessionId, SessionInfo, SessionState,
};
use spore_transport::BlobId;

use crate::exit::{self, Exit, Failure, OrExit};
use crate::{output, refusal};

/// A session that this command alone uses until it is dropped.
pub(super) struct LocalSession {
    folder: PathBuf,
    id: SessionId,
    _lock: File,
}

impl LocalSession {
    /// Keeps a new session; one that comes from a host is held.
    pub(super) fn create(
        home: &Home,
        id: SessionId,
        bundle: &Bundle,
        held: Option<&Held>,
    ) -> Result<(), Failure> {
        let folder = home.sessions_path().join(id.to_string());
        fs::create_dir_all(&folder).or_exit(Exit::Local)?;
        let mut session = LocalSession {
            _lock: lock(&folder)?,
            folder,
            id,
        };
        // What says that it is held, before what says that it is there.
        if let Some(held) = held {
            output::write_file(&session.folder.join(HELD), held.write().as_bytes())?;
        }
        session.keep(bundle)?;
        // The folder itself is there after a loss of power as well.
        sync_folder(&home.sessions_path())
    }

    /// As what a session came that is held.
    pub(super) fn held(&self) -> Result<Option<Held>, Failure> {
        read_held(&self.folder)
    }

    /// Whether there is a session of this id.
    pub(super) fn exists(home: &Home, id: SessionId) -> bool {
        home.sessions_path().join(id.to_string()).join(NOW).exists()
    }

    /// Lets a session be called that was held.
    pub(super) fn take_over(&self) -> Result<(), Failure> {
        match fs::remove_file(self.folder.join(HELD)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => {
                removed.or_exit(Exit::Local)?;
                sync_folder(&self.folder)
            }
        }
    }

    /// The session of this id. Waits while another command uses it.
    pub(super) fn find(home: &Home, id: SessionId) -> Result<LocalSession, Failure> {
        let folder = home.sessions_path().join(id.to_string());
        let unknown = || {
            Failure::new(Exit::Refused, format!("there is no session {id} here"))
                .help("spore session ls lists them; one on a host needs --on HOST")
        };
        if !folder.join(NOW).exists() {
            return Err(unknown());
        }
        let session = LocalSession {
            _lock: lock(&folder)?,
            folder,
            id,
        };
        // It may have been closed meanwhile.
        match session.folder.join(NOW).exists() {
            true => Ok(session),
            false => Err(unknown()),
        }
    }

    /// What the session is now.
    ///
    /// # Errors
    ///
    /// When it is held or poisoned, or its file cannot be read.
    pub(super) fn bundle(&self) -> Result<Bundle, Failure> {
        if let Some(held) = read_held(&self.folder)? {
            return Err(refusal::held(held.session, &held.host.to_string()));
        }
        if let Some(why) = self.poisoned()? {
            let message = format!(
                "the session was stopped within a call: {}",
                output::plain(&why)
            );
            return Err(Failure::new(Exit::Refused, message).help(format!(
                "spore session restore {0}, if it was saved, or spore session close {0}",
                self.id
            )));
        }
        Ok(Bundle::open(self.folder.join(NOW))?)
    }

    /// Keeps what the session is now.
    pub(super) fn keep(&mut self, bundle: &Bundle) -> Result<(), Failure> {
        output::write_file(&self.folder.join(NOW), &bundle.inner().encode())
    }

    /// Notes that a call did not come to its end.
    pub(super) fn poison(&mut self, why: &str) -> Result<(), Failure> {
        output::write_file(&self.folder.join(POISONED), why.as_bytes())
    }

    /// Notes what the session is now as what it is put back to.
    pub(super) fn save(&self) -> Result<Bundle, Failure> {
        let bundle = self.bundle()?;
        output::write_file(&self.folder.join(SAVED), &bundle.inner().encode())?;
        Ok(bundle)
    }

    /// Puts the session back to what it was last saved as.
    pub(super) fn restore(&mut self) -> Result<(), Failure> {
        let saved = self.folder.join(SAVED);
        if !saved.exists() {
            let message = format!("session {} was never saved", self.id);
            return Err(Failure::new(Exit::Refused, message)
                .help(format!("spore session close {}", self.id)));
        }
        self.keep(&Bundle::open(saved)?)?;
        match fs::remove_file(self.folder.join(POISONED)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed.or_exit(Exit::Local)?,
        }
        sync_folder(&self.folder)
    }

    /// Ends the session.
    pub(super) fn close(self) -> Result<(), Failure> {
        // Without this file there is no session, whatever else is left.
        fs::remove_file(self.folder.join(NOW)).or_exit(Exit::Local)?;
        // One that was moved away must not be back after a loss of power.
        sync_folder(&self.folder)?;
        fs::remove_dir_all(&self.folder).or_exit(Exit::Local)
    }

    /// Every session, in the order of their ids.
    pub(super) fn list(home: &Home) -> Result<Vec<SessionInfo>, Failure> {
        let folder = home.sessions_path();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).or_exit(Exit::Local),
        };
        let mut sessions = Vec::new();
        for entry in entries {
            let entry = entry.or_exit(Exit::Local)?;
            let name = entry.file_name();
            let Some(Ok(id)) = name.to_str().map(str::parse::<SessionId>) else {
                continue;
            };
            // One that cannot be read is listed too: it can be closed.
            match info(id, &entry.path()) {
                Ok(info) => sessions.extend(info),
                // It was closed just now.
                Err(_) if !entry.path().join(NOW).exists() => {}
                Err(failure) => sessions.push(damaged(id, failure.message())),
            }
        }
        sessions.sort_by_key(|session| session.session);
        Ok(sessions)
    }

    fn poisoned(&self) -> Result<Option<String>, Failure> {
        poisoned(&self.folder)
    }
}

const NOW: &str = "now.spore";
const SAVED: &str = "saved.spore";
const POISONED: &str = "poisoned";
const HELD: &str = "held";

/// What a session is that is held here.
pub(super) struct Held {
    /// Its id where it comes from
    pub(super) session: SessionId,
    /// The host that it comes from
    pub(super) host: PublicKey,
    /// What it was saved as there
    pub(super) bundle: BundleId,
}

impl Held {
    fn write(&self) -> String {
        format!("{} {} {}\n", self.session, self.host, self.bundle)
    }

    fn read(text: &str) -> Option<Held> {
        let mut words = text.split_whitespace();
        Some(Held {
            session: words.next()?.parse().ok()?,
            host: words.next()?.parse().ok()?,
            bundle: words.next()?.parse().ok()?,
        })
    }
}

fn read_held(folder: &Path) -> Result<Option<Held>, Failure> {
    let Some(text) = read_if_there(&folder.join(HELD))? else {
        return Ok(None);
    };
    let held = Held::read(&text);
    let unreadable = || Failure::new(Exit::Local, "what says where it comes from cannot be read");
    held.map(Some).ok_or_else(unreadable)
}

fn read_if_there(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).or_exit(Exit::Local),
    }
}

fn poisoned(folder: &Path) -> Result<Option<String>, Failure> {
    read_if_there(&folder.join(POISONED))
}

/// What a session's files tell; nothing when it is closed meanwhile.
fn info(id: SessionId, folder: &Path) -> Result<Option<SessionInfo>, Failure> {
    let now = folder.join(NOW);
    if !now.exists() {
        return Ok(None);
    }
    let bundle = Bundle::open(&now)?;
    let blob = |bundle: &Bundle| BlobId(*bundle.id().as_bytes());
    let saved = folder.join(SAVED);
    let why = poisoned(folder)?;
    let is_poisoned = why.is_some();
    let (saved, why) = match saved.exists().then(|| Bundle::open(saved)) {
        None => (None, why),
        Some(Ok(saved)) => (Some(blob(&saved)), why),
        Some(Err(error)) => {
            let cannot = format!(
                "what it was saved as cannot be read: {}",
                exit::chain(&error)
            );
            (None, why.or(Some(cannot)))
        }
    };
    let used = fs::metadata(&now).and_then(|data| data.modified());
    let idle = used.ok().and_then(|used| used.elapsed().ok());
    let image = bundle.inner().image();
    Ok(Some(SessionInfo {
        session: id,
        bundle: blob(&bundle),
        name: bundle.inner().manifest().name.clone(),
        state: match is_poisoned {
            true => SessionState::Poisoned,
            false => SessionState::Resting,
        },
        why: why.unwrap_or_default(),
        memory_bytes: image.map_or(0, |image| image.changed_bytes()),
        calls: 0,
        idle_ms: idle.map_or(0, |idle| {
            u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)
        }),
        saved,
        held: read_held(folder)?.map(|held| Origin {
            session: held.session,
            host: Some(held.host),
        }),
    }))
}

/// A session whose files cannot be read.
fn damaged(id: SessionId, why: &str) -> SessionInfo {
    SessionInfo {
        session: id,
        bundle: BlobId([0; 32]),
        name: String::new(),
        state: SessionState::Poisoned,
        why: why.to_owned(),
        memory_bytes: 0,
        calls: 0,
        idle_ms: 0,
        saved: None,
        held: None,
    }
}

/// Has what was made in a folder, or removed from it, be so after a loss of power.
fn sync_folder(folder: &Path) -> Result<(), Failure> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.or_exit(Exit::Local)
}

/// Waits until no other command uses the session.
fn lock(folder: &Path) -> Result<File, Failure> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join("lock"))
        .or_exit(Exit::Local)?;
    file.lock().or_exit(Exit::Local)?;
    Ok(file)
}
