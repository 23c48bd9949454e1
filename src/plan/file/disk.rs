//! Plan files on the controller's disk: read up to a size, written whole or not at all.
#![expect(clippy::disallowed_methods, reason = "plan files are read and written here")]

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{PlanFileError, header};

/// The greatest size of a plan file, in bytes.
pub const MAX_BYTES: u64 = 512 << 20;

/// Tells whether a file is meant as a plan, by its name or its beginning.
#[must_use]
pub fn is_plan(path: &Path) -> bool {
    let begins = || {
        let mut head = vec![];
        let is_file = fs::metadata(path).is_ok_and(|meta| meta.is_file());
        let read = is_file && File::open(path).and_then(|file| file.take(64).read_to_end(&mut head)).is_ok();
        read && header::begins(&head)
    };
    path.extension().is_some_and(|extension| extension == "vprov") || begins()
}

/// Reads a plan file; its bytes are what a signature is over.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn load(path: &Path) -> Result<Vec<u8>, PlanFileError> {
    let wrong = |error: io::Error| PlanFileError::Unreadable { path: path.display().to_string(), error };
    let meta = fs::metadata(path).map_err(wrong)?;
    if !meta.is_file() {
        return Err(wrong(io::Error::other("it is no regular file")));
    }
    let mut bytes = vec![];
    File::open(path).map_err(wrong)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > MAX_BYTES { Err(PlanFileError::TooLarge) } else { Ok(bytes) }
}

/// Writes a file that only its owner may read, by way of a temporary file beside it: a full disk or a cut leaves what was
/// there.
///
/// # Errors
/// As the system says it.
pub fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path)?;
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // The name is durable only once its directory is.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", rustix::process::getpid().as_raw_nonzero()));
    Ok(path.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vprov");
        save(&path, b"one").unwrap();
        save(&path, b"two").unwrap();
        assert_eq!(
            (load(&path).unwrap(), fs::metadata(&path).unwrap().permissions().mode() & 0o777),
            (b"two".to_vec(), 0o600)
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(save(&dir.path().join("none/a"), b"").is_err());
        assert!(load(dir.path()).unwrap_err().to_string().contains("no regular file"));
        assert!(is_plan(&path) && !is_plan(dir.path()));
    }
}
