//! The record of a rollout on the controller's disk: `runs/RUN/record` below vprov's state directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    host::run::RunId,
    rollout::record::{Entry, Head, Line, Past, line},
};

/// How many records are kept.
const KEEP: usize = 50;

/// A record that is written. Each line is on the disk before what follows it happens.
pub struct Record(Mutex<File>);

/// Returns where records are, or nothing where the environment names no place (`XDG_STATE_HOME`, `HOME`).
#[expect(clippy::disallowed_methods, reason = "the environment names the directory of the person's state")]
pub fn directory() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state")))?;
    Some(state.join("vprov/runs"))
}

impl Record {
    /// Begins a record.
    ///
    /// # Errors
    /// Says why it cannot be written.
    #[expect(clippy::disallowed_methods, reason = "the record is this controller's own file")]
    pub fn begin(directory: &Path, head: &Head) -> Result<Self, String> {
        let own = directory.join(head.run.as_str());
        let wrong = |error| format!("the record of the run cannot be written to `{}`: {error}", own.display());
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(wrong)?;
        DirBuilder::new().mode(0o700).create(&own).map_err(wrong)?;
        let path = own.join("record");
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path).map_err(wrong)?;
        let begun = flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(Into::into)
            .and_then(|()| (&file).write_all(line(head).as_bytes()))
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(&own)?.sync_all())
            .and_then(|()| File::open(directory)?.sync_all());
        if let Err(error) = begun {
            let _ = fs::remove_dir_all(&own);
            return Err(wrong(error));
        }
        // Old records that stay do no harm.
        if let Ok(runs) = names(directory) {
            for old in runs.iter().rev().skip(KEEP) {
                let _ = fs::remove_dir_all(directory.join(old.as_str()));
            }
        }
        Ok(Self(Mutex::new(file)))
    }

    /// Takes up the record of a run; of the newest one of the same documents where none is named.
    ///
    /// # Errors
    /// Says why it cannot be gone on with.
    #[expect(clippy::disallowed_methods, reason = "the record is this controller's own file")]
    pub fn resume(directory: &Path, run: Option<&RunId>, of: &str) -> Result<(Self, Past), String> {
        let read = |run: &RunId| {
            let text = fs::read(directory.join(run.as_str()).join("record")).map_err(|error| match error.kind() {
                ErrorKind::NotFound => format!("there is no record of a run `{run}` in `{}`", directory.display()),
                _ => format!("the record of the run `{run}` cannot be read: {error}"),
            })?;
            Past::read(&text).map_err(|error| format!("the record of the run `{run}` is of no use: {error}"))
        };
        let past = match run {
            Some(run) => read(run)?,
            None => names(directory)
                .unwrap_or_default()
                .iter()
                .rev()
                .find_map(|run| read(run).ok().filter(|past| past.head.of == of))
                .ok_or_else(|| format!("there is no record of a run of `{of}` in `{}`", directory.display()))?,
        };
        let run = &past.head.run;
        if past.head.of != of {
            return Err(format!("the run `{run}` is one of `{}`, not of `{of}`", past.head.of));
        }
        let path = directory.join(run.as_str()).join("record");
        let wrong = |error| format!("the record `{}` cannot be gone on with: {error}", path.display());
        let file = OpenOptions::new().append(true).open(&path).map_err(wrong)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| format!("another vprov goes on with the run `{run}`"))?;
        // What was written since it was read is that of the one who held it until now.
        let past = Past::read(&fs::read(&path).map_err(wrong)?)?;
        file.set_len(past.whole as u64).map_err(wrong)?;
        Ok((Self(Mutex::new(file)), past))
    }

    /// Writes a line down; it is on the disk when this returns.
    ///
    /// # Errors
    /// Says why it cannot be.
    #[expect(clippy::disallowed_methods, reason = "a record says when things happened")]
    pub fn tell(&self, entry: Entry) -> Result<(), String> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let text = line(&Line { at: now.map_or(0, |now| now.as_secs()), entry });
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes()).and_then(|()| file.sync_data()).map_err(|error| error.to_string())
    }
}

/// Returns the runs that have a record, oldest first.
#[expect(clippy::disallowed_methods, reason = "records are this controller's own files")]
fn names(directory: &Path) -> std::io::Result<Vec<RunId>> {
    let entries = fs::read_dir(directory)?;
    let mut runs: Vec<RunId> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    runs.sort();
    Ok(runs)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the files")]
mod tests {
    use super::*;
    use crate::{
        config::rollout::Rollout as Rules,
        rollout::{Member, record::FORMAT},
    };
    use std::os::unix::fs::PermissionsExt as _;

    fn head(n: u64, of: &str) -> Head {
        let members = vec![Member { host: "a".into(), canary: false }];
        let (format, vprov, by, rules) = (FORMAT.into(), "0".into(), "me".into(), Rules::default());
        Head { format, vprov, run: RunId::new(n, 0), by, of: of.into(), rules, members }
    }

    #[test]
    fn a_record_is_private_held_by_one_and_a_torn_line_is_cut_off() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("state/runs");
        let record = Record::begin(&directory, &head(1, "/h")).unwrap();
        record.tell(Entry::Began { host: "a".into() }).unwrap();
        let (run, other) = (RunId::new(1, 0), RunId::new(2, 0));
        let error = |run, of| Record::resume(&directory, run, of).err().unwrap();
        assert!(error(Some(&run), "/h").contains("another vprov goes on"));
        assert!(error(Some(&run), "/other").contains("is one of `/h`"));
        assert!(error(Some(&other), "/h").contains("no record of a run `19700101T000002Z-0000`"));
        assert!(error(None, "/other").contains("no record of a run of `/other`"));
        drop(record);
        let path = directory.join(run.as_str()).join("record");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap()), mode(&directory)), (0o600, 0o700, 0o700));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"at\":1,\"ev"].concat()).unwrap();
        let (record, past) = Record::resume(&directory, None, "/h").unwrap();
        assert!(past.ended.is_empty() && !past.is_closed);
        record.tell(Entry::Ended { host: "a".into(), good: true, words: "done".into() }).unwrap();
        drop(record);
        let (_, past) = Record::resume(&directory, None, "/h").unwrap();
        assert_eq!(past.ended.get("a"), Some(&true));
    }

    #[test]
    fn old_records_go() {
        let home = tempfile::tempdir().unwrap();
        for n in 0..KEEP as u64 + 3 {
            Record::begin(home.path(), &head(n, "/h")).unwrap();
        }
        let left = names(home.path()).unwrap();
        assert_eq!((left.len(), &left[0]), (KEEP, &RunId::new(3, 0)));
    }
}
