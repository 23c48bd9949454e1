//! The modules and playbooks that are part of this program.

macro_rules! files {
    ($($path:literal,)*) => {
        /// Path and text of each embedded file.
        pub const FILES: &[(&str, &str)] = &[$(($path, include_str!(concat!("../../", $path)))),*];
    };
}

files! {
    "modules/aio_max_nr.yaml",
    "modules/hugepages.yaml",
    "modules/io_scheduler.yaml",
    "modules/ksm.yaml",
    "modules/nfs_mount.yaml",
    "modules/swappiness.yaml",
    "modules/transparent_hugepages.yaml",
    "modules/xen_dom0.yaml",
    "playbooks/guest.yaml",
    "playbooks/kvm-host.yaml",
    "playbooks/xen-host.yaml",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the list is compared with the directory")]
    fn every_file_is_embedded() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        for folder in ["modules", "playbooks"] {
            let Ok(list) = std::fs::read_dir(root.join(folder)) else { continue };
            for entry in list {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name.ends_with(".yaml") {
                    found.push(format!("{folder}/{name}"));
                }
            }
        }
        found.sort();
        let listed: Vec<_> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed, found, "the list in config/embedded.rs is sorted and complete");
    }
}
