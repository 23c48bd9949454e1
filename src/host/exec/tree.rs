//! [`Tree`]: the files of the host, or those below `--root DIR`, and the system calls by which they are reached.
//!
//! Below a root each path is walked component by component, so that no symbolic link leaves it; `openat2` would do the same
//! in one call, but SLES 15 has kernels without it (5.3) and a second way would have to be proved too. A path that is to be
//! written is always walked, and a symbolic link on the way is followed only if it belongs to root or to the writer: nobody
//! can turn a write of root elsewhere by swapping a directory for a link.

use std::{
    cell::Cell,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::host::path::AbsPath;

/// Why something could not be done to a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A system call failed.
    #[error("cannot {action} `{path}`: {}", words(*errno))]
    System {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which path.
        path: String,
        /// What the system said.
        errno: Errno,
    },
    /// What stands there is nothing that vprov changes.
    #[error("`{path}` {reason}")]
    Refused {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The run was cut (only by the fault seam of tests).
    #[error("cut")]
    Cut,
}

impl TreeError {
    /// Makes the error of a failed system call.
    pub fn system(action: &'static str, path: impl ToString) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { action, path: path.to_string(), errno }
    }

    /// Makes a refusal.
    pub fn refused(path: impl ToString, reason: impl Into<String>) -> Self {
        Self::Refused { path: path.to_string(), reason: reason.into() }
    }
}

/// Returns the system's own words for an error, without its number.
#[must_use]
pub fn words(errno: Errno) -> String {
    let text = io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

/// The place where a directory entry is: relative to a descriptor, never to a path that could change meanwhile.
pub struct Place {
    dir: Option<OwnedFd>,
    /// The name in it: one component, or for plain reads of the machine itself a whole path.
    pub name: String,
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_ref().map_or(CWD, AsFd::as_fd)
    }
}

/// Counts the points at which a run can be cut; from the chosen one on, nothing is written any more.
#[derive(Debug, Default)]
pub struct Seam {
    passed: Cell<usize>,
    cut: Cell<bool>,
    at: Option<usize>,
}

impl Seam {
    /// Makes a seam that cuts at the point of this number, from 0.
    #[must_use]
    pub fn new(at: Option<usize>) -> Self {
        Self { passed: Cell::new(0), cut: Cell::new(false), at }
    }

    /// Stands before each system call that changes something.
    ///
    /// # Errors
    /// Fails from the chosen point on.
    pub fn point(&self) -> Result<(), TreeError> {
        let passed = self.passed.get();
        if self.at.is_some_and(|at| passed >= at) {
            self.cut.set(true);
            return Err(TreeError::Cut);
        }
        self.passed.set(passed + 1);
        Ok(())
    }

    /// Tells whether the run was cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// Returns how many points were passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.passed.get()
    }
}

/// The files of the host.
pub struct Tree {
    top: OwnedFd,
    root: Option<PathBuf>,
    /// The fault seam.
    pub seam: Seam,
}

/// File systems that show the running kernel (statfs(2): procfs, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs).
const LIVE: [i64; 7] = [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x6462_6720, 0x7472_6163, 0x7363_6673];

const LINKS: usize = 40;

impl Tree {
    /// Opens the tree of the machine, or what lies below a directory.
    ///
    /// # Errors
    /// Fails if that is no directory.
    pub fn open(root: Option<PathBuf>, seam: Seam) -> Result<Self, TreeError> {
        let path = root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = fs::open(&path, flags, Mode::empty()).map_err(TreeError::system("open", path.to_string_lossy()))?;
        // Programs that are told the root do not run where vprov was started.
        let root = root.map(|root| std::path::absolute(&root).unwrap_or(root));
        Ok(Self { top, root, seam })
    }

    /// Returns the directory that stands for `/`, if it is not `/` itself.
    #[must_use]
    pub fn root(&self) -> Option<&std::path::Path> {
        self.root.as_deref()
    }

    /// Returns the path by which programs outside know a path of this tree.
    #[must_use]
    pub fn outside(&self, path: &AbsPath) -> PathBuf {
        match &self.root {
            Some(root) => root.join(path.as_str().trim_start_matches('/')),
            None => PathBuf::from(path.as_str()),
        }
    }

    /// Finds where a path is, to read it. The flag says whether a link as last component is followed.
    ///
    /// # Errors
    /// Fails as the system does on the way.
    pub fn find(&self, path: &AbsPath, follow: bool) -> Result<Place, Errno> {
        if self.root.is_none() {
            return Ok(Place { dir: None, name: path.as_str().into() });
        }
        match self.walk(path, follow, false) {
            Ok(place) if is_live(&place) => Err(Errno::NOENT),
            Ok(place) => Ok(place),
            Err(Stop::Errno(errno)) => Err(errno),
            Err(Stop::Foreign) => Err(Errno::LOOP),
        }
    }

    /// Finds the directory that holds a path, to change the path in it. The last component is not followed.
    ///
    /// # Errors
    /// Fails for `/`, on a missing directory, and on a link of somebody else on the way.
    pub fn holder(&self, path: &AbsPath) -> Result<Place, TreeError> {
        match self.walk(path, false, true) {
            Ok(place) if place.name == "." => Err(TreeError::refused(path, "is the root directory")),
            Ok(place) => Ok(place),
            Err(Stop::Errno(errno)) => {
                let parent = path.parent().map_or_else(|| path.to_string(), |parent| parent.to_string());
                Err(TreeError::system("enter", parent)(errno))
            }
            Err(Stop::Foreign) => Err(TreeError::refused(
                path,
                "is reached by a symbolic link that belongs to neither root nor this user",
            )),
        }
    }

    /// Tells whether a path shows the running kernel, whatever it is called.
    ///
    /// # Errors
    /// As [`Tree::holder`].
    pub fn shows_kernel(&self, path: &AbsPath) -> Result<bool, TreeError> {
        self.holder(path).map(|place| is_live(&place))
    }

    fn walk(&self, path: &AbsPath, follow: bool, own_links: bool) -> Result<Place, Stop> {
        let mut below: Vec<OwnedFd> = Vec::new();
        let mut todo: Vec<Vec<u8>> = parts(path.as_str().as_bytes());
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                below.pop();
                continue;
            }
            let dir = below.last().unwrap_or(&self.top);
            let last = todo.is_empty();
            let found = |part: Vec<u8>| -> Result<Place, Stop> {
                let name = String::from_utf8(part).map_err(|_| Stop::Errno(Errno::ILSEQ))?;
                Ok(Place { dir: Some(dir.try_clone().map_err(|_| Stop::Errno(Errno::MFILE))?), name })
            };
            if last && !follow {
                return found(part);
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let entry = match fs::openat(dir, part.as_slice(), flags, Mode::empty()) {
                Ok(entry) => entry,
                Err(Errno::NOENT) if last => return found(part),
                Err(errno) => return Err(Stop::Errno(errno)),
            };
            let stat = fs::fstat(&entry).map_err(Stop::Errno)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > LINKS {
                        return Err(Stop::Errno(Errno::LOOP));
                    }
                    let own = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
                    if own_links && !own {
                        return Err(Stop::Foreign);
                    }
                    let target = fs::readlinkat(&entry, "", Vec::new()).map_err(Stop::Errno)?.into_bytes();
                    if target.starts_with(b"/") {
                        below.clear();
                    }
                    todo.extend(parts(&target));
                }
                _ if last => return found(part),
                FileType::Directory => below.push(entry),
                _ => return Err(Stop::Errno(Errno::NOTDIR)),
            }
        }
        let dir = below.pop().map_or_else(|| self.top.try_clone(), Ok).map_err(|_| Stop::Errno(Errno::MFILE))?;
        Ok(Place { dir: Some(dir), name: ".".into() })
    }
}

impl Place {
    /// Returns what stands there; a link itself unless `follow` says otherwise.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn stat(&self, follow: bool) -> Result<Stat, Errno> {
        // Below a root the walk has followed already, and nothing may be followed beyond it.
        let follow = follow && self.dir.is_none();
        fs::statat(self, &self.name, if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW })
    }

    /// Opens what stands there to read it.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn open(&self, follow: bool) -> Result<OwnedFd, Errno> {
        let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if !follow || self.dir.is_some() {
            flags |= OFlags::NOFOLLOW;
        }
        fs::openat(self, &self.name, flags, Mode::empty())
    }

    /// Returns where the link that stands there points.
    ///
    /// # Errors
    /// Fails as the system does.
    pub fn link(&self) -> Result<Vec<u8>, Errno> {
        Ok(fs::readlinkat(self, &self.name, Vec::new())?.into_bytes())
    }

    /// Returns another name in the same directory.
    ///
    /// # Errors
    /// Fails if the process has no descriptor left.
    pub fn sibling(&self, name: impl Into<String>) -> Result<Self, Errno> {
        let dir = self.dir.as_ref().map(OwnedFd::try_clone).transpose().map_err(|_| Errno::MFILE)?;
        Ok(Self { dir, name: name.into() })
    }
}

enum Stop {
    Errno(Errno),
    Foreign,
}

/// Splits a path into its components, last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .rev()
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

fn is_live(place: &Place) -> bool {
    place.dir.as_ref().is_some_and(|dir| {
        #[expect(clippy::unnecessary_cast, reason = "the type of `f_type` differs between architectures")]
        fs::fstatfs(dir).is_ok_and(|stat| LIVE.contains(&(stat.f_type as i64)))
    })
}
