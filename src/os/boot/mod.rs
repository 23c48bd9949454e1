//! Boot configuration: the command lines of Linux and Xen, the files that they are made from, and the boot loaders.

pub mod cmdline;
pub mod shell;

pub mod grub_cfg;

mod debian;
pub mod driver;
pub mod evidence;
mod suse;

pub use debian::DROP_IN;
