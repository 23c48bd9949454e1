//! Changes of single files: each one atomic, on the disk when it returns, and with all attributes.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{
        self, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
        XattrFlags,
    },
    io::Errno,
    rand::{GetRandomFlags, getrandom},
};

use super::{
    read,
    tree::{Place, Tree, TreeError, words},
};
use crate::host::{bytes::Digest, op::Owner, path::AbsPath};
use sha2::{Digest as _, Sha256};

/// How the name of a temporary file begins; eight hexadecimal digits follow.
pub const TEMPORARY: &str = ".vprov-";

/// An extended attribute.
pub type Xattr = (String, Vec<u8>);

/// What a file is to have beside its content.
pub struct Attributes {
    /// Owner and mode.
    pub owner: Owner,
    /// Exactly these extended attributes; `None` keeps those of the file that is replaced.
    pub xattrs: Option<Vec<Xattr>>,
    /// Seconds and nanoseconds of its last modification; `None` is now.
    pub mtime: Option<(i64, i64)>,
}

impl Attributes {
    /// Keeps everything of the replaced file but owner and mode.
    #[must_use]
    pub fn of(owner: Owner) -> Self {
        Self { owner, xattrs: None, mtime: None }
    }
}

/// What a file is to hold.
pub enum Content<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// What an open file holds from its current place on, if that has this digest.
    Copy(OwnedFd, Digest),
}

/// What belongs to the user that vprov runs as.
#[must_use]
pub fn own(mode: u32) -> Owner {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Owner { mode, uid, gid }
}

/// Tells whether a name is one that [`place_file`] gives a temporary file.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    name.strip_prefix(TEMPORARY)
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Replaces or creates a regular file atomically. `recheck` runs right before the new file takes its name.
///
/// # Errors
/// Fails as the system does, if something else than a file or link stands there, and if `recheck` does; then the path is as before.
pub fn place_file(
    tree: &Tree,
    path: &AbsPath,
    content: Content<'_>,
    attributes: &Attributes,
    recheck: &mut dyn FnMut() -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let place = tree.holder(path)?;
    let old = replaceable(&place, path)?;
    with_temporary(tree, &place, path, |temporary| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        tree.seam.point()?;
        let file = fs::openat(temporary, &temporary.name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(TreeError::system("create a file beside", path))?;
        tree.seam.point()?;
        match content {
            Content::Bytes(bytes) => write_all(&file, bytes).map_err(TreeError::system("write", path))?,
            Content::Copy(from, digest) => {
                if copy(&from, &file).map_err(TreeError::system("write", path))? != digest {
                    return Err(TreeError::refused(path, "has a backup that is damaged"));
                }
            }
        }
        let xattrs = match (&attributes.xattrs, &old) {
            (Some(xattrs), _) => Some(xattrs.clone()),
            (None, Some(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                let old = place.open(false).map_err(TreeError::system("open", path))?;
                Some(xattrs_of(&old).map_err(TreeError::system("read the attributes of", path))?)
            }
            (None, _) => None,
        };
        dress(tree, &file, path, attributes.owner, xattrs.as_deref())?;
        if let Some((tv_sec, tv_nsec)) = attributes.mtime {
            set_mtime(tree, &file, path, tv_sec, tv_nsec)?;
        }
        tree.seam.point()?;
        fs::fsync(&file).map_err(TreeError::system("store", path))?;
        recheck()?;
        take_name(tree, temporary, &place, path)
    })
}

/// Replaces or creates a symbolic link atomically.
///
/// # Errors
/// As [`place_file`].
pub fn place_link(
    tree: &Tree,
    path: &AbsPath,
    target: &str,
    owner: Option<(u32, u32)>,
    recheck: &mut dyn FnMut() -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let place = tree.holder(path)?;
    replaceable(&place, path)?;
    with_temporary(tree, &place, path, |temporary| {
        tree.seam.point()?;
        fs::symlinkat(target, temporary, &temporary.name).map_err(TreeError::system("create a link beside", path))?;
        if let Some((uid, gid)) = owner {
            let stat = temporary.stat(false).map_err(TreeError::system("look at", path))?;
            if (stat.st_uid, stat.st_gid) != (uid, gid) {
                tree.seam.point()?;
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                fs::chownat(temporary, &temporary.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(TreeError::system("set the owner of", path))?;
            }
        }
        recheck()?;
        take_name(tree, temporary, &place, path)
    })
}

/// Creates a directory, or gives an existing one owner and mode; the extended attributes too, if some are given.
///
/// # Errors
/// Fails as the system does, and if something else stands there.
pub fn make_directory(tree: &Tree, path: &AbsPath, owner: Owner, xattrs: Option<&[Xattr]>) -> Result<(), TreeError> {
    let place = tree.holder(path)?;
    match place.stat(false) {
        // It is made with this mode.
        Err(Errno::NOENT) if owner == own(0o700) && xattrs.is_none() => {
            tree.seam.point()?;
            fs::mkdirat(&place, &place.name, Mode::RWXU).map_err(TreeError::system("make", path))?;
            let directory = place.open(false).map_err(TreeError::system("open", path))?;
            dress(tree, &directory, path, owner, None)?;
            store(tree, &directory, path)?;
            store_names(tree, &place, path)
        }
        Err(Errno::NOENT) => with_temporary(tree, &place, path, |temporary| {
            // It takes its name when it is whole: nothing but its maker knows of a mode that was to come.
            tree.seam.point()?;
            fs::mkdirat(temporary, &temporary.name, Mode::RWXU).map_err(TreeError::system("make", path))?;
            let directory = temporary.open(false).map_err(TreeError::system("open", path))?;
            dress(tree, &directory, path, owner, xattrs)?;
            store(tree, &directory, path)?;
            take_free_name(tree, temporary, &place, path)
        }),
        Err(errno) => Err(TreeError::system("look at", path)(errno)),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            let directory = place.open(false).map_err(TreeError::system("open", path))?;
            dress(tree, &directory, path, owner, xattrs)?;
            store(tree, &directory, path)?;
            store_names(tree, &place, path)
        }
        Ok(_) => Err(TreeError::refused(path, "is no directory")),
    }
}

fn store(tree: &Tree, directory: &OwnedFd, path: &AbsPath) -> Result<(), TreeError> {
    tree.seam.point()?;
    fs::fsync(directory).map_err(TreeError::system("store", path))
}

/// Removes a file, a link or an empty directory; nothing happens if there is nothing.
///
/// # Errors
/// Fails as the system does.
pub fn remove(
    tree: &Tree,
    path: &AbsPath,
    recheck: &mut dyn FnMut() -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let place = tree.holder(path)?;
    let flags = match place.stat(false) {
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(TreeError::system("look at", path)(errno)),
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => AtFlags::REMOVEDIR,
            FileType::RegularFile | FileType::Symlink => AtFlags::empty(),
            _ => return Err(TreeError::refused(path, "is a device, socket or pipe")),
        },
    };
    recheck()?;
    tree.seam.point()?;
    fs::unlinkat(&place, &place.name, flags).map_err(TreeError::system("remove", path))?;
    store_names(tree, &place, path)
}

/// Gives a file or directory owner and mode.
///
/// # Errors
/// Fails as the system does, and if something else stands there.
pub fn set_owner(tree: &Tree, path: &AbsPath, owner: Owner) -> Result<(), TreeError> {
    let place = tree.holder(path)?;
    let stat = place.stat(false).map_err(TreeError::system("look at", path))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => {}
        _ => return Err(TreeError::refused(path, "is neither a file nor a directory")),
    }
    let file = place.open(false).map_err(TreeError::system("open", path))?;
    dress(tree, &file, path, owner, None)?;
    tree.seam.point()?;
    fs::fsync(&file).map_err(TreeError::system("store", path))
}

/// Writes a value into an existing file of /proc or /sys by one call, a newline behind it.
///
/// # Errors
/// Fails as the kernel does: a value that it refuses is EINVAL or ERANGE, one that it cannot set now EBUSY.
pub fn poke(tree: &Tree, path: &AbsPath, value: &str) -> Result<(), TreeError> {
    let place = tree.holder(path)?;
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    tree.seam.point()?;
    let file =
        fs::openat(&place, &place.name, flags, Mode::empty()).map_err(TreeError::system("open for writing", path))?;
    let line = format!("{value}\n");
    loop {
        match rustix::io::write(&file, line.as_bytes()) {
            Ok(length) if length == line.len() || length == value.len() => return Ok(()),
            Ok(_) => return Err(TreeError::refused(path, format!("took only a part of `{value}`"))),
            Err(Errno::INTR) => {}
            Err(errno) => {
                return Err(TreeError::refused(path, format!("does not take `{value}`: {}", words(errno))));
            }
        }
    }
}

/// Returns the extended attributes that are a file's own; those that the kernel computes from the content are left out.
///
/// # Errors
/// Fails as the system does; a file system without such attributes has none.
pub fn xattrs_of(file: impl AsFd) -> Result<Vec<Xattr>, Errno> {
    let mut list = Vec::with_capacity(65_536);
    match fs::flistxattr(&file, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(vec![]),
        Err(errno) => return Err(errno),
    }
    let mut xattrs = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if matches!(name, "security.ima" | "security.evm") {
            continue;
        }
        let mut value = Vec::with_capacity(65_536);
        match fs::fgetxattr(&file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => xattrs.push((name.to_string(), value)),
            // Listed, but gone or not for this reader: there is nothing to keep.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// Removes the temporary files that a run that was cut left in a directory.
pub fn sweep(tree: &Tree, directory: &AbsPath) {
    for name in read::names_in(tree, directory) {
        if is_temporary(&name)
            && let Ok(path) = directory.join(&name)
            && let Ok(place) = tree.holder(&path)
            && tree.seam.point().is_ok()
        {
            clear_away(&place);
        }
    }
}

/// Removes something temporary, if that goes.
fn clear_away(place: &Place) {
    if let Err(Errno::ISDIR | Errno::PERM) = fs::unlinkat(place, &place.name, AtFlags::empty()) {
        let _ = fs::unlinkat(place, &place.name, AtFlags::REMOVEDIR);
    }
}

/// What stands at a place, if vprov may replace it.
fn replaceable(place: &Place, path: &AbsPath) -> Result<Option<Stat>, TreeError> {
    match place.stat(false) {
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(TreeError::system("look at", path)(errno)),
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => Ok(Some(stat)),
            FileType::Directory => Err(TreeError::refused(path, "is a directory")),
            _ => Err(TreeError::refused(path, "is a device, socket or pipe")),
        },
    }
}

/// Makes something under a temporary name; what remains of it after a failure is removed.
///
/// # Errors
/// As `make`.
pub fn with_temporary(
    tree: &Tree,
    place: &Place,
    path: &AbsPath,
    make: impl FnOnce(&Place) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let name = format!("{TEMPORARY}{:08x}", chance());
    let temporary = place.sibling(name).map_err(TreeError::system("enter the directory of", path))?;
    make(&temporary).inspect_err(|error| {
        if *error != TreeError::Cut && tree.seam.point().is_ok() {
            clear_away(&temporary);
        }
    })
}

/// Gives what was made under a temporary name its own, and brings that to the disk.
///
/// # Errors
/// Fails as the system does.
pub fn take_name(tree: &Tree, temporary: &Place, place: &Place, path: &AbsPath) -> Result<(), TreeError> {
    tree.seam.point()?;
    fs::renameat(temporary, &temporary.name, place, &place.name).map_err(TreeError::system("replace", path))?;
    store_names(tree, place, path)
}

/// The same where nothing may stand.
fn take_free_name(tree: &Tree, temporary: &Place, place: &Place, path: &AbsPath) -> Result<(), TreeError> {
    tree.seam.point()?;
    let taken = fs::renameat_with(temporary, &temporary.name, place, &place.name, RenameFlags::NOREPLACE);
    match taken {
        // Not every file system can refuse; there an empty directory that came meanwhile is replaced, and nothing else.
        Err(Errno::INVAL | Errno::NOSYS) => fs::renameat(temporary, &temporary.name, place, &place.name),
        taken => taken,
    }
    .map_err(TreeError::system("make", path))?;
    store_names(tree, place, path)
}

/// Brings the names in a directory to the disk.
///
/// # Errors
/// Fails as the system does.
pub fn store_names(tree: &Tree, place: &Place, path: &AbsPath) -> Result<(), TreeError> {
    tree.seam.point()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let stored = fs::openat(place, ".", flags, Mode::empty()).and_then(fs::fsync);
    match stored {
        // Some file systems have no directories to store (EINVAL).
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(TreeError::system("store the directory of", path)(errno)),
    }
}

/// Gives an open file owner, attributes and mode, in the order in which none of them undoes another: a change of owner
/// clears set-user-ID, and an ACL and the group's bits of the mode are one thing, in which the mode has the last word.
fn dress(
    tree: &Tree,
    file: impl AsFd,
    path: &AbsPath,
    owner: Owner,
    xattrs: Option<&[Xattr]>,
) -> Result<(), TreeError> {
    let look = |file: &dyn Fn() -> Result<Stat, Errno>| file().map_err(TreeError::system("look at", path));
    let stat = look(&|| fs::fstat(&file))?;
    if (stat.st_uid, stat.st_gid) != (owner.uid, owner.gid) {
        tree.seam.point()?;
        fs::fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
            .map_err(TreeError::system("set the owner of", path))?;
    }
    if let Some(wanted) = xattrs {
        set_xattrs(tree, &file, path, wanted)?;
    }
    if look(&|| fs::fstat(&file))?.st_mode & 0o7777 != owner.mode {
        tree.seam.point()?;
        fs::fchmod(&file, Mode::from_raw_mode(owner.mode)).map_err(TreeError::system("set the mode of", path))?;
    }
    Ok(())
}

fn set_xattrs(tree: &Tree, file: impl AsFd, path: &AbsPath, wanted: &[Xattr]) -> Result<(), TreeError> {
    let present = xattrs_of(&file).map_err(TreeError::system("read the attributes of", path))?;
    // A label that only the security module may set is set by it; capabilities are the file's own.
    let tolerated = |name: &str, errno: Errno| {
        let is_label = name.starts_with("security.") && name != "security.capability";
        errno == Errno::NOTSUP || (matches!(errno, Errno::PERM | Errno::ACCESS) && is_label)
    };
    let failed = |name: &str, errno: Errno| {
        if tolerated(name, errno) { Ok(()) } else { Err(TreeError::system("set the attributes of", path)(errno)) }
    };
    for (name, _) in present.iter().filter(|(name, _)| !wanted.iter().any(|(other, _)| other == name)) {
        tree.seam.point()?;
        fs::fremovexattr(&file, name.as_str()).or_else(|errno| failed(name, errno))?;
    }
    for (name, value) in wanted.iter().filter(|xattr| !present.contains(xattr)) {
        tree.seam.point()?;
        fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty()).or_else(|errno| failed(name, errno))?;
    }
    Ok(())
}

fn set_mtime(tree: &Tree, file: impl AsFd, path: &AbsPath, tv_sec: i64, tv_nsec: i64) -> Result<(), TreeError> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec, tv_nsec: tv_nsec as _ },
    };
    tree.seam.point()?;
    fs::futimens(file, &times).map_err(TreeError::system("set the time of", path))
}

/// Copies from one open file to another and returns the digest of what was copied.
///
/// # Errors
/// Fails as the system does.
pub fn copy(from: impl AsFd, to: impl AsFd) -> Result<Digest, Errno> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::io::read(&from, &mut buffer) {
            Ok(0) => return Ok(Digest::from_raw(hash.finalize().into())),
            Ok(length) => {
                hash.update(&buffer[..length]);
                write_all(&to, &buffer[..length])?;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes everything, however many calls it takes.
///
/// # Errors
/// Fails as the system does.
pub fn write_all(file: impl AsFd, mut content: &[u8]) -> Result<(), Errno> {
    while !content.is_empty() {
        match rustix::io::write(&file, content) {
            Ok(0) => return Err(Errno::IO),
            Ok(length) => content = &content[length..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// A number nobody can foresee, so that nobody can put a file in the way.
#[must_use]
pub fn chance() -> u32 {
    let mut bytes = [0; 4];
    // Before the kernel has entropy a name that can be guessed does no harm: O_EXCL refuses what is there.
    let _ = getrandom(&mut bytes, GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}
