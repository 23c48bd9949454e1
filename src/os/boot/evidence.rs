//! What must be read to know a host's boot loader, and how it becomes [`Evidence`].

use super::driver::{DEFAULT_GRUB, Evidence, GRUB_D};
use crate::{
    host::{
        bytes::Bytes,
        observed::Observed,
        path::AbsPath,
        probe::Probe,
        read::{Answer, Output, Read, Want},
    },
    os::setting::{self, Format},
};

/// The menus that GRUB's generators write.
pub const GRUB_CFG: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
const MKCONFIG: [&str; 2] = ["/usr/sbin/grub2-mkconfig", "/usr/sbin/grub-mkconfig"];
const MENU_LST: &str = "/boot/grub/menu.lst";
const BOOTLOADER: &str = "/etc/sysconfig/bootloader";
const BLS_ENTRIES: &str = "/boot/loader/entries/*.conf";
const KERNEL_CMDLINE: &str = "/etc/kernel/cmdline";
const OSTREE: &str = "/run/ostree-booted";
/// The variable in which the boot loader names itself (systemd, Boot Loader Interface).
const LOADER_INFO: &str = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// What is known of a host from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct System<'a> {
    /// `ID` of /etc/os-release.
    pub os_id: &'a str,
    /// The words of `ID_LIKE`.
    pub os_like: &'a [String],
    /// The machine of uname(2).
    pub arch: &'a str,
    /// `/` or /usr is read-only and transactional-update is installed.
    pub transactional: bool,
}

/// Why a file that decides could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The user may not read it.
    #[error("{0} may not be read by this user")]
    Denied(String),
    /// It cannot be read, or is no file.
    #[error("{0} is {1}, not a file")]
    Strange(String, String),
}

/// Asks for the drop-ins of GRUB's generator.
#[must_use]
pub fn drop_ins() -> Read {
    Read::glob(format!("{GRUB_D}/*.cfg"))
}

fn entry(path: &str) -> Read {
    Read::Path { path: AbsPath::known(path), follow: false, want: Want::Meta }
}

/// Returns everything that must be read.
#[must_use]
pub fn reads() -> Vec<Read> {
    let contents = MKCONFIG.iter().chain(&[BOOTLOADER, LOADER_INFO, DEFAULT_GRUB]);
    let mut reads: Vec<Read> = contents.map(|path| Read::content(AbsPath::known(path))).collect();
    reads.extend([MENU_LST, KERNEL_CMDLINE, OSTREE].map(|path| Read::exists(AbsPath::known(path))));
    reads.extend(GRUB_CFG.map(entry));
    reads.push(Read::Glob { pattern: BLS_ENTRIES.into(), want: Want::Meta });
    reads.push(drop_ins());
    reads.push(Read::Probe(Probe::once(["bootctl", "is-installed"])));
    reads
}

/// Makes evidence of the answers.
///
/// # Errors
/// [`Unread`] where a file that decides is there and could not be read.
pub fn collect(observed: &Observed, system: System) -> Result<Evidence, Unread> {
    let answer = |read: &Read| observed.get(read).unwrap_or(&Answer::Absent);
    let exists = |path: &str| answer(&Read::exists(AbsPath::known(path))).meta().is_some();
    let mut grub_d = vec![];
    match answer(&drop_ins()) {
        Answer::Paths(paths) => {
            for (path, answer) in paths {
                match answer {
                    Answer::File { content: Some(content), .. } => {
                        grub_d.push((path.file_name().to_owned(), content.clone()));
                    }
                    Answer::Denied => return Err(Unread::Denied(path.to_string())),
                    _ => {}
                }
            }
        }
        Answer::Denied => return Err(Unread::Denied(GRUB_D.into())),
        _ => {}
    }
    let has_menu = |path: &&str| match answer(&entry(path)) {
        Answer::File { .. } | Answer::Denied => true,
        // A link to the other name is no second file, and what may not be read is there.
        Answer::Link { target, .. } => !target.ends_with("grub.cfg"),
        _ => false,
    };
    let content = |path: &str| match answer(&Read::content(AbsPath::known(path))) {
        Answer::Absent => Ok(None),
        Answer::File { content: Some(content), .. } => Ok(Some(content)),
        Answer::Denied => Err(Unread::Denied(path.into())),
        other => Err(Unread::Strange(path.into(), other.describe())),
    };
    let loader_type = content(BOOTLOADER)?
        .and_then(|text| setting::get(Format::Shell, &text.0, "LOADER_TYPE").ok().flatten())
        .and_then(|found| found.value)
        .map(|value| value.to_string());
    let mkconfig = MKCONFIG.iter().find_map(|path| {
        let path = AbsPath::known(path);
        let content = answer(&Read::content(path.clone())).content().cloned();
        content.map(|content| (path, content))
    });
    let bls = answer(&Read::Glob { pattern: BLS_ENTRIES.into(), want: Want::Meta });
    let installed = answer(&Read::Probe(Probe::once(["bootctl", "is-installed"])));
    Ok(Evidence {
        os_id: system.os_id.into(),
        os_like: system.os_like.into(),
        arch: system.arch.into(),
        default_grub: content(DEFAULT_GRUB)?.cloned(),
        grub_d,
        mkconfig,
        grub_cfg: GRUB_CFG.into_iter().filter(has_menu).map(AbsPath::known).collect(),
        menu_lst: exists(MENU_LST),
        loader_type,
        bls_entries: matches!(bls, Answer::Paths(paths) if !paths.is_empty()),
        kernel_cmdline: exists(KERNEL_CMDLINE),
        loader_info: answer(&Read::content(AbsPath::known(LOADER_INFO))).content().map(efi_text),
        systemd_boot: matches!(installed, Answer::Output(Output { status: 0, .. })),
        ostree: exists(OSTREE),
        transactional: system.transactional,
    })
}

/// Reads the text of an EFI variable: four bytes of attributes, then UTF-16.
fn efi_text(content: &Bytes) -> String {
    let units: Vec<u16> = content
        .0
        .get(4..)
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efi_variables_are_text_behind_four_bytes() {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend("GRUB 2.12\0".encode_utf16().flat_map(u16::to_le_bytes));
        assert_eq!(efi_text(&Bytes(bytes)), "GRUB 2.12");
        assert_eq!(efi_text(&Bytes(vec![1])), "");
    }
}
