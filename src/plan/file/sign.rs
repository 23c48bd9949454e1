//! Signatures of plan files, made and checked by `ssh-keygen -Y`: the signature stands beside the plan as `FILE.sig`, and
//! anybody can check it with the same program.
#![expect(clippy::disallowed_methods, reason = "ssh-keygen of the controller signs and checks plans")]

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

/// What a signature is for: one that was made for something else is none of a plan.
pub const NAMESPACE: &str = "vprov-plan";

/// Returns the file that holds the signature of a plan.
#[must_use]
pub fn beside(plan: &Path) -> PathBuf {
    let mut name = OsString::from(plan);
    name.push(".sig");
    name.into()
}

/// Signs the bytes of a plan with a private key (or a public one whose private key an agent holds).
///
/// # Errors
/// What ssh-keygen said.
pub fn sign(bytes: &[u8], key: &Path) -> Result<Vec<u8>, String> {
    let args: [&OsStr; 6] =
        ["-Y".as_ref(), "sign".as_ref(), "-n".as_ref(), NAMESPACE.as_ref(), "-f".as_ref(), key.as_ref()];
    keygen(&args, bytes).map(String::into_bytes)
}

/// Checks the signature of a plan, and returns by whom of the allowed signers it is.
///
/// # Errors
/// It is not signed, by a stranger, or not over these bytes; with what ssh-keygen said.
pub fn verify(plan: &Path, bytes: &[u8], allowed: &Path) -> Result<String, String> {
    let signature = beside(plan);
    if !signature.is_file() {
        return Err(format!("it is not signed: there is no `{}`", signature.display()));
    }
    if !allowed.is_file() {
        return Err(format!("there is no file of allowed signers `{}`", allowed.display()));
    }
    let files: [&OsStr; 4] = ["-s".as_ref(), signature.as_ref(), "-f".as_ref(), allowed.as_ref()];
    let find: Vec<&OsStr> = [OsStr::new("-Y"), OsStr::new("find-principals")].into_iter().chain(files).collect();
    let principals =
        keygen(&find, b"").map_err(|said| format!("its signature is by nobody in `{}`: {said}", allowed.display()))?;
    let mut said = String::from("it names nobody");
    for principal in principals.lines() {
        let rest = ["-Y", "verify", "-n", NAMESPACE, "-I", principal].map(OsStr::new);
        let verify: Vec<&OsStr> = rest.into_iter().chain(files).collect();
        match keygen(&verify, bytes) {
            Ok(_) => return Ok(principal.to_owned()),
            Err(words) => said = words,
        }
    }
    Err(format!("its signature is not over this plan: {said}"))
}

/// Runs ssh-keygen and returns what it printed, or what it complained about.
fn keygen(args: &[&OsStr], input: &[u8]) -> Result<String, String> {
    let started = Command::new("ssh-keygen")
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| format!("ssh-keygen does not start: {error}"))?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // It may end without reading everything; what it says then is what counts.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    });
    let output = output.map_err(|error| format!("ssh-keygen: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(if said.is_empty() { format!("ssh-keygen ended with {}", output.status) } else { said.join("; ") })
}
