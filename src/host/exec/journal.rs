//! What is remembered of a run, so that it can be taken back: the lock, the journal, the backups, and what is owed.
//!
//! `runs/RUN/journal` holds one JSON record a line. The intent of an operation, with all that its inverse needs, is on the
//! disk before the operation acts; so after a cut the last intent without an end is the only one in doubt, and its
//! inverse is right whether it acted or not. Contents are kept beside it in `objects/`, named by their SHA-256.

use std::{collections::BTreeSet, os::fd::OwnedFd, time::Duration};

use rustix::{
    fs::{self, FileType, FlockOperation, Mode, OFlags},
    io::Errno,
    time::{ClockId, clock_gettime},
};
use serde::Serialize;

use super::{
    Terms,
    read::{self, answer, contents},
    tree::{Place, Tree, TreeError},
    write::{self, Attributes, Content, Xattr},
};
use crate::{
    address::Address,
    host::{
        bytes::{Bytes, Digest},
        journal::{Ending, FORMAT, Inverse, Record, Saved, Story},
        ledger,
        matcher::Matcher,
        op::{Form, Owner},
        path::AbsPath,
        read::Read,
        run::{RunId, utc},
        state::{Owed, STATE_DIR, Short, TAKING_BACK, UNCONFIRMED, UNFINISHED, Unfinished},
    },
};

/// How long the lock is tried for at least: a program that the last holder was just starting keeps it until it is loaded.
const PATIENCE: Duration = Duration::from_millis(300);

/// How long there is between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The most that is read of a journal.
const LIMIT: usize = 256 << 20;

/// The lock on a host; the kernel frees it when the holder ends, however that comes about.
pub struct Lock(OwnedFd);

impl Lock {
    /// Returns the open file for another process: the lock is held until both are done with it.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn share(&self) -> std::io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

/// Why there is no lock.
pub enum NoLock {
    /// Somebody else holds it.
    Held(String),
    /// The system's words.
    Failed(TreeError),
}

impl From<TreeError> for NoLock {
    fn from(error: TreeError) -> Self {
        Self::Failed(error)
    }
}

/// Returns the seconds since 1970 (UTC).
#[must_use]
pub fn now() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Returns a path of the state.
///
/// # Panics
/// Never: what comes in is made of digits, letters and fixed names.
pub fn state(rest: &str) -> AbsPath {
    AbsPath::known(&format!("{STATE_DIR}/{rest}"))
}

/// Takes the lock for a run, or says who holds it. The terms say how long it is waited for.
pub fn lock(tree: &Tree, run: &RunId, by: &str, terms: &Terms) -> Result<Lock, NoLock> {
    ensure(tree, &AbsPath::known(STATE_DIR))?;
    let path = state("lock");
    let place = tree.holder(&path)?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    tree.seam.point()?;
    let file =
        fs::openat(&place, &place.name, flags, Mode::RUSR | Mode::WUSR).map_err(TreeError::system("open", &path))?;
    let mut left = terms.lock_timeout.max(PATIENCE);
    loop {
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if !left.is_zero() && !terms.is_cancelled() => {
                std::thread::sleep(PAUSE);
                left = left.saturating_sub(PAUSE);
            }
            Err(Errno::WOULDBLOCK) => {
                let holder = contents(&file, 4096).unwrap_or_default();
                return Err(NoLock::Held(String::from_utf8_lossy(&holder).trim().into()));
            }
            Err(errno) => return Err(TreeError::system("lock", &path)(errno).into()),
        }
    }
    tree.seam.point()?;
    fs::ftruncate(&file, 0).map_err(TreeError::system("write", &path))?;
    let since = utc(now());
    tree.seam.point()?;
    write::write_all(&file, format!("{by}, run {run}, since {since}\n").as_bytes())
        .map_err(TreeError::system("write", &path))?;
    Ok(Lock(file))
}

/// Makes a directory of the state, closed to others, and what is missing above it.
fn ensure(tree: &Tree, path: &AbsPath) -> Result<(), TreeError> {
    let is_there = || tree.find(path, false).and_then(|place| place.stat(false)).is_ok();
    if is_there() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        ensure(tree, &parent)?;
    }
    let own = path.is_within(&AbsPath::known(STATE_DIR));
    match write::make_directory(tree, path, write::own(if own { 0o700 } else { 0o755 }), None) {
        // The place of the lock is made before it is held, so another run may have made it meanwhile.
        Err(TreeError::System { errno: Errno::EXIST, .. }) if is_there() => Ok(()),
        made => made,
    }
}

/// Tells whether an activation is recorded as due.
#[must_use]
pub fn is_owed(tree: &Tree, activation: &str) -> bool {
    tree.find(&Owed::path(activation), false).and_then(|place| place.stat(false)).is_ok()
}

/// Records that an activation is due; returns whether that is new.
///
/// # Errors
/// Fails as the system does.
pub fn owe(tree: &Tree, activation: &str, run: &RunId) -> Result<bool, TreeError> {
    if is_owed(tree, activation) {
        return Ok(false);
    }
    let path = Owed::path(activation);
    if let Some(directory) = path.parent() {
        ensure(tree, &directory)?;
    }
    let owed = Owed { activation: activation.into(), run: run.clone() };
    put(tree, &path, &json(&owed))?;
    Ok(true)
}

/// Remembers for this boot that a value fell short of what was written.
///
/// # Errors
/// Fails as the system does.
pub fn remember_short(tree: &Tree, value: &AbsPath, wanted: &str, found: String) -> Result<(), TreeError> {
    let path = Short::place(value);
    if let Some(directory) = path.parent() {
        ensure(tree, &directory)?;
    }
    let boot = answer(tree, &Read::content(AbsPath::known("/proc/sys/kernel/random/boot_id")));
    let boot = boot.text().unwrap_or_default().trim().to_owned();
    put(tree, &path, &json(&Short { path: value.clone(), wanted: wanted.into(), found, boot }))
}

/// Forgets that an activation is due.
///
/// # Errors
/// Fails as the system does.
pub fn settle(tree: &Tree, activation: &str) -> Result<(), TreeError> {
    if is_owed(tree, activation) { write::remove(tree, &Owed::path(activation), &mut || Ok(())) } else { Ok(()) }
}

/// Forgets everything that a run made due.
///
/// # Errors
/// Fails as the system does.
pub fn settle_run(tree: &Tree, run: &RunId) -> Result<(), TreeError> {
    let directory = state("owed");
    for name in read::names_in(tree, &directory) {
        let Ok(path) = directory.join(&name) else { continue };
        let answer = answer(tree, &Read::entry(path.clone()));
        let owed = answer.content().and_then(|content| serde_json::from_slice::<Owed>(&content.0).ok());
        if owed.is_some_and(|owed| owed.run == *run) {
            write::remove(tree, &path, &mut || Ok(()))?;
        }
    }
    Ok(())
}

fn put(tree: &Tree, path: &AbsPath, content: &[u8]) -> Result<(), TreeError> {
    write::place_file(tree, path, Content::Bytes(content), &Attributes::of(write::own(0o600)), &mut || Ok(()))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("these types have only text keys");
    line.push(b'\n');
    line
}

/// The journal of the run that goes on.
pub struct Journal {
    directory: AbsPath,
    file: OwnedFd,
    next: usize,
}

impl Journal {
    /// Begins a run's journal.
    ///
    /// # Errors
    /// Fails as the system does, and if the run has one already.
    pub fn begin(tree: &Tree, run: &RunId, by: &str, takes_back: Option<&RunId>) -> Result<Self, TreeError> {
        let directory = state(&format!("runs/{run}"));
        if is_marked(tree, &directory, "journal") {
            return Err(TreeError::refused(&directory, "is there already: this run was begun before"));
        }
        ensure(tree, &directory.join("objects").expect("it is a plain name"))?;
        ensure(tree, &ledger::directory())?;
        let time = clock_gettime(ClockId::Realtime);
        let unfinished = Unfinished { run: run.clone(), by: by.into(), at: time.tv_sec };
        put(tree, &directory.join("open").expect("it is a plain name"), &json(&unfinished))?;
        let path = directory.join("journal").expect("it is a plain name");
        let place = tree.holder(&path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        tree.seam.point()?;
        let file = fs::openat(&place, &place.name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(TreeError::system("create", &path))?;
        let journal = Self { directory, file, next: 0 };
        let begun = Record::Begun {
            format: FORMAT.into(),
            run: run.clone(),
            by: by.into(),
            at: time.tv_sec,
            ns: u32::try_from(time.tv_nsec).unwrap_or(0),
            takes_back: takes_back.cloned(),
        };
        journal.append(tree, &begun)?;
        write::store_names(tree, &place, &path)?;
        Ok(journal)
    }

    /// Appends a record as a whole: what a full disk took a part of, or what is not sure to be on it, is taken away again, for the
    /// next record would make one line with the part, and records are counted.
    fn append(&self, tree: &Tree, record: &Record) -> Result<(), TreeError> {
        let failed = |action, errno| TreeError::system(action, &self.directory)(errno);
        let length = fs::fstat(&self.file).map_err(|errno| failed("look at the journal in", errno))?.st_size;
        tree.seam.point()?;
        let written = write::write_all(&self.file, &json(record))
            .map_err(|errno| failed("write the journal in", errno))
            .and_then(|()| tree.seam.point())
            .and_then(|()| fs::fdatasync(&self.file).map_err(|errno| failed("store the journal in", errno)));
        if let Err(error) = &written
            && *error != TreeError::Cut
        {
            fs::ftruncate(&self.file, u64::try_from(length).unwrap_or(0))
                .map_err(|errno| failed("shorten the journal in", errno))?;
        }
        written
    }

    /// Records what is about to act, and whether its values are secret; returns its number.
    ///
    /// # Errors
    /// Fails as the system does; then nothing may act.
    pub fn intent(
        &mut self,
        tree: &Tree,
        address: Option<&Address>,
        sensitive: bool,
        action: String,
        inverses: Vec<Inverse>,
    ) -> Result<usize, TreeError> {
        let number = self.next;
        self.append(tree, &Record::Intent { number, address: address.cloned(), sensitive, action, inverses })?;
        self.next += 1;
        Ok(number)
    }

    /// Records that it acted, and what stands now at some paths.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn done(&self, tree: &Tree, number: usize, now: Vec<(AbsPath, Matcher)>) -> Result<(), TreeError> {
        self.append(tree, &Record::Done { number, now })
    }

    /// Records that it failed.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn failed(&self, tree: &Tree, number: usize, error: &str) -> Result<(), TreeError> {
        self.append(tree, &Record::Failed { number, error: error.into() })
    }

    /// Ends the journal.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn end(self, tree: &Tree, how: Ending) -> Result<(), TreeError> {
        let open = self.directory.join("open").expect("it is a plain name");
        self.append(tree, &Record::Ended { at: now(), how })?;
        if how == Ending::Interrupted {
            set_interrupted(tree, &self.directory)
        } else {
            write::remove(tree, &open, &mut || Ok(()))
        }
    }

    /// Returns the directory for what is staged, closed to others.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn stage(&self, tree: &Tree) -> Result<AbsPath, TreeError> {
        let directory = self.directory.join("stage").expect("it is a plain name");
        ensure(tree, &directory)?;
        Ok(directory)
    }

    /// Saves what stands at a path: a file's content is on the disk when this returns.
    ///
    /// # Errors
    /// Fails as the system does, and on a device, socket or pipe.
    pub fn save(&self, tree: &Tree, path: &AbsPath) -> Result<Saved, TreeError> {
        let place = match tree.holder(path) {
            Ok(place) => place,
            Err(TreeError::System { errno: Errno::NOENT | Errno::NOTDIR, .. }) => return Ok(Saved::Absent),
            Err(error) => return Err(error),
        };
        let failed = |errno| TreeError::system("save", path)(errno);
        let stat = match place.stat(false) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Saved::Absent),
            Err(errno) => return Err(failed(errno)),
        };
        let meta = read::meta(&stat);
        let owner = Owner { mode: meta.mode, uid: meta.uid, gid: meta.gid };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let file = place.open(false).map_err(failed)?;
                let xattrs = stored(write::xattrs_of(&file).map_err(failed)?);
                #[expect(clippy::unnecessary_cast, reason = "the type differs between architectures")]
                let mtime = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
                Ok(Saved::File { digest: self.keep(tree, &file, path)?, owner, xattrs, mtime })
            }
            FileType::Symlink => match String::from_utf8(place.link().map_err(failed)?) {
                Ok(target) => Ok(Saved::Link { target, uid: meta.uid, gid: meta.gid }),
                Err(_) => Err(TreeError::refused(path, "is a symbolic link whose target is no UTF-8")),
            },
            FileType::Directory => {
                let directory = place.open(false).map_err(failed)?;
                Ok(Saved::Directory { owner, xattrs: stored(write::xattrs_of(&directory).map_err(failed)?) })
            }
            _ => Err(TreeError::refused(path, "is a device, socket or pipe")),
        }
    }

    /// Keeps a file's content among the objects.
    fn keep(&self, tree: &Tree, file: &OwnedFd, path: &AbsPath) -> Result<Digest, TreeError> {
        let objects = self.directory.join("objects").expect("it is a plain name");
        let mut place = tree.holder(&objects.join("new").expect("it is a plain name"))?;
        let mut digest = None;
        write::with_temporary(
            tree,
            &place.sibling("").map_err(TreeError::system("enter", &objects))?,
            &objects,
            |temporary| {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                tree.seam.point()?;
                let copy = fs::openat(temporary, &temporary.name, flags, Mode::RUSR | Mode::WUSR)
                    .map_err(TreeError::system("create a backup of", path))?;
                tree.seam.point()?;
                let found = write::copy(file, &copy).map_err(TreeError::system("back up", path))?;
                tree.seam.point()?;
                fs::fsync(&copy).map_err(TreeError::system("store the backup of", path))?;
                digest = Some(found);
                place.name = found.to_string();
                write::take_name(tree, temporary, &place, path)
            },
        )?;
        digest.ok_or_else(|| TreeError::refused(path, "was not backed up"))
    }
}

fn stored(xattrs: Vec<Xattr>) -> Vec<(String, Bytes)> {
    xattrs.into_iter().map(|(name, value)| (name, Bytes(value))).collect()
}

/// Returns the rule that says what stands at a path now.
#[must_use]
pub fn fingerprint(tree: &Tree, path: &AbsPath) -> Matcher {
    let read = Read::Path { path: path.clone(), follow: false, want: crate::host::read::Want::Digest };
    Matcher::same_as(&answer(tree, &read))
}

/// A run of before, with the place of its journal.
pub struct Past {
    /// The directory of the run.
    pub directory: AbsPath,
    /// What its journal tells.
    pub story: Story,
}

/// Reads a run's journal.
///
/// # Errors
/// Says why there is no such run or why its journal makes no sense.
pub fn past(tree: &Tree, run: &RunId) -> Result<Past, String> {
    let directory = state(&format!("runs/{run}"));
    let path = directory.join("journal").expect("it is a plain name");
    let open = tree.find(&path, false).and_then(|place| place.open(false));
    let file = match open {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(format!("there is no run `{run}`")),
        Err(errno) => return Err(TreeError::system("read", &path)(errno).to_string()),
    };
    let text = contents(file, LIMIT).map_err(|error| format!("cannot read `{path}`: {error}"))?;
    let story = Story::decode(run, &text).map_err(|error| format!("`{path}`{error}"))?;
    Ok(Past { directory, story })
}

impl Past {
    /// Returns where a content is that the run saved.
    #[must_use]
    pub fn place_of(&self, digest: Digest) -> AbsPath {
        self.directory.join(&format!("objects/{digest}")).expect("it is a plain name")
    }

    /// Opens a content that the run saved.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn object(&self, tree: &Tree, digest: Digest) -> Result<OwnedFd, TreeError> {
        let path = self.place_of(digest);
        tree.find(&path, false).and_then(|place: Place| place.open(false)).map_err(TreeError::system("read", &path))
    }

    /// Returns the run that took this one back, if one did.
    #[must_use]
    pub fn taken_back_by(&self, tree: &Tree) -> Option<RunId> {
        answer(tree, &Read::entry(self.marker())).text()?.trim().parse().ok()
    }

    /// Forgets that the run was interrupted: it is taken back.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn forget_interrupted(&self, tree: &Tree) -> Result<(), TreeError> {
        write::remove(tree, &self.directory.join("interrupted").expect("it is a plain name"), &mut || Ok(()))
    }

    /// Remembers that the run was taken back by another one.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn set_taken_back(&self, tree: &Tree, by: &RunId) -> Result<(), TreeError> {
        put(tree, &self.marker(), format!("{by}\n").as_bytes())
    }

    /// Forgets that the run was taken back.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn unset_taken_back(&self, tree: &Tree) -> Result<(), TreeError> {
        write::remove(tree, &self.marker(), &mut || Ok(()))
    }

    fn marker(&self) -> AbsPath {
        self.directory.join("taken-back").expect("it is a plain name")
    }
}

/// Clears away what runs left that were cut: temporary files and what was staged. What they changed stays as it is, and their
/// journals stay for a rollback.
///
/// # Errors
/// Fails as the system does.
pub fn clear_cut_runs(tree: &Tree) -> Result<(), TreeError> {
    for (run, directory) in runs(tree) {
        // Whoever holds the lock knows that no confirm timer does.
        for waited in [UNCONFIRMED, TAKING_BACK].iter().filter(|name| is_marked(tree, &directory, name)) {
            let place = |name: &str| tree.holder(&directory.join(name).expect("it is a plain name"));
            write::take_name(tree, &place(waited)?, &place("interrupted")?, &directory)?;
        }
        if !is_marked(tree, &directory, "open") {
            // One that was forgotten or taken back at the moment of a cut.
            write::sweep(tree, &directory);
            continue;
        }
        let mut directories = BTreeSet::from([directory.clone(), state("owed"), state("")]);
        directories.insert(directory.join("objects").expect("it is a plain name"));
        if let Ok(past) = past(tree, &run) {
            for inverse in past.story.intents.iter().flat_map(|intent| &intent.inverses) {
                if let Inverse::Restore { path, .. } | Inverse::Derive { path, .. } = inverse {
                    directories.extend(path.parent());
                }
            }
        }
        directories.iter().for_each(|directory| write::sweep(tree, directory));
        clear_stage(tree, &directory)?;
        set_interrupted(tree, &directory)?;
    }
    Ok(())
}

/// Records that a run waits to be confirmed.
///
/// # Errors
/// Fails as the system does, and if there is such a run already.
pub fn set_unconfirmed(tree: &Tree, run: &RunId, by: &str) -> Result<(), TreeError> {
    let directory = state(&format!("runs/{run}"));
    if tree.find(&directory, false).and_then(|place| place.stat(false)).is_ok() {
        return Err(TreeError::refused(&directory, "is there already: this run was begun before"));
    }
    ensure(tree, &directory)?;
    let unfinished = Unfinished { run: run.clone(), by: by.into(), at: now() };
    put(tree, &directory.join(UNCONFIRMED).expect("it is a plain name"), &json(&unfinished))
}

/// Forgets a run that waits to be confirmed and did nothing.
///
/// # Errors
/// Fails as the system does.
pub fn unset_unconfirmed(tree: &Tree, run: &RunId) -> Result<(), TreeError> {
    let directory = state(&format!("runs/{run}"));
    write::remove(tree, &directory.join(UNCONFIRMED).expect("it is a plain name"), &mut || Ok(()))?;
    write::remove(tree, &directory, &mut || Ok(()))
}

/// Decides whether a run is confirmed or taken back: of several who ask, the first gets it. Returns whether this one did.
///
/// # Errors
/// Fails as the system does.
pub fn decide(tree: &Tree, run: &RunId, decided: &str) -> Result<bool, TreeError> {
    let path = |name: &str| state(&format!("runs/{run}/{name}"));
    let (from, to) = (path(UNCONFIRMED), path(decided));
    match write::take_name(tree, &tree.holder(&from)?, &tree.holder(&to)?, &to) {
        Ok(()) => Ok(true),
        Err(TreeError::System { errno: Errno::NOENT, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells whether a run was begun and has ended.
#[must_use]
pub fn has_ended(tree: &Tree, run: &RunId) -> bool {
    let directory = state(&format!("runs/{run}"));
    is_marked(tree, &directory, "journal") && !is_marked(tree, &directory, "open")
}

/// Turns the record of a run that goes on into one of a run that was interrupted.
fn set_interrupted(tree: &Tree, directory: &AbsPath) -> Result<(), TreeError> {
    let open = directory.join("open").expect("it is a plain name");
    let record = answer(tree, &Read::entry(open.clone())).content().cloned().unwrap_or_default();
    put(tree, &directory.join("interrupted").expect("it is a plain name"), &record.0)?;
    write::remove(tree, &open, &mut || Ok(()))
}

/// Tells whether the directory of a run holds a file of this name.
#[must_use]
pub fn is_marked(tree: &Tree, directory: &AbsPath, name: &str) -> bool {
    let path = directory.join(name).expect("it is a plain name");
    tree.find(&path, false).and_then(|place| place.stat(false)).is_ok()
}

/// Tells whether there is a run that did not come to its end.
#[must_use]
pub fn is_any_unfinished(tree: &Tree) -> bool {
    runs(tree).iter().any(|(_, directory)| UNFINISHED.iter().any(|name| is_marked(tree, directory, name)))
}

/// Forgets that runs were interrupted: a later one ended well.
///
/// # Errors
/// Fails as the system does.
pub fn forget_interrupted(tree: &Tree) -> Result<(), TreeError> {
    for (_, directory) in runs(tree) {
        if is_marked(tree, &directory, "interrupted") {
            write::remove(tree, &directory.join("interrupted").expect("it is a plain name"), &mut || Ok(()))?;
        }
    }
    Ok(())
}

/// Returns all runs with their directories, in the order of their names.
#[must_use]
pub fn runs(tree: &Tree) -> Vec<(RunId, AbsPath)> {
    let names = read::names_in(tree, &state("runs"));
    let runs = names.iter().filter_map(|name| name.parse::<RunId>().ok());
    runs.map(|run| (run.clone(), state(&format!("runs/{run}")))).collect()
}

/// Returns the rule that says what stands now where inverses would act.
#[must_use]
pub fn stand(tree: &Tree, inverses: &[Inverse]) -> Vec<(AbsPath, Matcher)> {
    let now = inverses.iter().filter_map(|inverse| match inverse {
        Inverse::Restore { path, .. } | Inverse::Derive { path, .. } => Some((path.clone(), fingerprint(tree, path))),
        Inverse::Value { path, form, .. } => {
            let value = super::apply::value(tree, path, *form)?;
            Some((path.clone(), if *form == Form::Choice { Matcher::Choice(value) } else { Matcher::Words(value) }))
        }
        Inverse::Program { .. } | Inverse::Irreversible => None,
    });
    now.collect()
}

/// Removes what a run staged.
///
/// # Errors
/// Fails as the system does.
pub fn clear_stage(tree: &Tree, run_directory: &AbsPath) -> Result<(), TreeError> {
    let stage = run_directory.join("stage").expect("it is a plain name");
    for name in read::names_in(tree, &stage) {
        if let Ok(path) = stage.join(&name) {
            write::remove(tree, &path, &mut || Ok(()))?;
        }
    }
    if tree.find(&stage, false).and_then(|place| place.stat(false)).is_ok() {
        write::remove(tree, &stage, &mut || Ok(()))?;
    }
    Ok(())
}

impl Journal {
    /// Returns the directory of the run.
    #[must_use]
    pub fn directory(&self) -> &AbsPath {
        &self.directory
    }
}
