"""What hosts.yaml of benches/fleet/real declares, for pyinfra: the same files byte for byte, and the same live values read."""

from io import StringIO

from pyinfra.context import host
from pyinfra.facts.files import FindInFile
from pyinfra.facts.server import Sysctl
from pyinfra.operations import files, server

MANAGED = "# Managed by vprov. Changes made here are overwritten.\n"


def put(dest, text):
    return files.put(src=StringIO(text), dest=dest, mode="644")


swappiness, aio_max_nr = host.data.swappiness, host.data.aio_max_nr
put("/etc/motd", "A light host.\n")
files.directory(path="/srv/images", mode="711")
files.directory(path="/etc/libvirt", mode="755")
files.directory(path="/mnt/images", mode="755")
files.link(path="/etc/images", target="/srv/images")
# Without these two, `files.line` would find no file to look into.
files.file(path="/etc/libvirt/qemu.conf", mode="644")
files.file(path="/etc/default/libvirt-guests", mode="644")
files.line(path="/etc/libvirt/qemu.conf", line="^max_files *=.*$", replace="max_files = 32768")
files.line(path="/etc/default/libvirt-guests", line="^ON_SHUTDOWN=.*$", replace='ON_SHUTDOWN="shutdown"')
put("/etc/sysctl.d/90-vprov.conf", f"{MANAGED}fs.aio-max-nr = {aio_max_nr}\nvm.swappiness = {swappiness}\n")
live = host.get_fact(Sysctl, keys=["vm.swappiness", "fs.aio-max-nr"])
if [live.get("vm.swappiness"), live.get("fs.aio-max-nr")] != [swappiness, aio_max_nr]:
    raise ValueError(f"the live values are {live}")
put("/etc/tmpfiles.d/10-vprov-ksm.conf", f"{MANAGED}w /sys/kernel/mm/ksm/run - - - - 0\n")
files.line(
    path="/etc/fstab",
    line=r"^[^#].*[[:space:]]/mnt/images[[:space:]].*$",
    replace="nfs1.example.net:/images /mnt/images nfs hard,_netdev,nofail 0 0",
)
menu = put(
    "/etc/default/grub.d/99-vprov.cfg",
    "# Written by vprov: changes are lost. Read by grub-mkconfig after /etc/default/grub.\n"
    'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT default_hugepagesz=1G hugepagesz=1G hugepages=1"\n',
)
host.get_fact(FindInFile, path="/boot/grub/grub.cfg", pattern="hugepages=1")
server.shell(commands=["grub-mkconfig -o /boot/grub/grub.cfg"], _if=menu.did_change)
