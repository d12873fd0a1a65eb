"""Fetches and unpacks the packages of sources.py, each in the version and with the hash that
sources.lock names.

    fetch.py            fetch what is missing into the cache folder, check every hash, unpack
    fetch.py --update   take today's versions and write sources.lock anew

The cache folder is $OPENLEDGER_BASE, or build/base. Packages come through apt-get download and npm
pack alone.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile

from sources import PACKAGES

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.abspath(os.environ.get("OPENLEDGER_BASE", os.path.join(ROOT, "build", "base")))
LOCK = os.path.join(HERE, "sources.lock")


def folder_of(package):
    """Where a package's files are once unpacked."""
    return os.path.join(CACHE, "packages", package.replace(":", "-").replace("/", "-"))


def read_lock():
    with open(LOCK) as lines:
        rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {package: (version, digest) for package, version, digest in rows}


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def download(package, version):
    """Fetches one package (version None: today's) and returns the path of its archive."""
    registry, name = package.split(":", 1)
    folder = os.path.join(CACHE, "archives", package.replace(":", "-").replace("/", "-"))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if registry == "deb":
        command = ["apt-get", "download", "-q", name + ("=" + version if version else "")]
    else:
        command = ["npm", "pack", "--silent", "--ignore-scripts",
                   name + ("@" + version if version else "")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    files = os.listdir(folder)
    if done.returncode != 0 or len(files) != 1:
        sys.exit("fetch: %s of version %s could not be had: %s\nfetch: if it has been replaced, "
                 "`fetch.py --update` takes today's version; the corpus then differs"
                 % (package, version, done.stderr.strip()[-300:]))
    return os.path.join(folder, files[0])


def archive_of(package):
    folder = os.path.join(CACHE, "archives", package.replace(":", "-").replace("/", "-"))
    files = os.listdir(folder) if os.path.isdir(folder) else []
    return os.path.join(folder, files[0]) if len(files) == 1 else None


def version_of(package, archive):
    if package.startswith("deb:"):
        return subprocess.run(["dpkg-deb", "-f", archive, "Version"], capture_output=True,
                              text=True, check=True).stdout.strip()
    return os.path.basename(archive)[:-len(".tgz")].rsplit("-", 1)[1]


def unpack(package, archive, digest):
    """Unpacks once; the mark says from which archive."""
    folder = folder_of(package)
    mark = os.path.join(folder, ".sha256")
    if os.path.exists(mark) and open(mark).read() == digest:
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    if package.startswith("deb:"):
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder)
    with open(mark, "w") as file:
        file.write(digest)


def fetch(update=False):
    lock = {} if update else read_lock()
    rows = []
    for package in PACKAGES:
        if not update and package not in lock:
            sys.exit("fetch: sources.lock does not name %s: run fetch.py --update" % package)
        version, wanted = lock.get(package, (None, None))
        archive = archive_of(package)
        if update or not archive or digest_of(archive) != wanted:
            archive = download(package, version)
        digest = digest_of(archive)
        if not update and digest != wanted:
            sys.exit("fetch: %s %s is not the archive that sources.lock names (SHA-256 %s, not %s)"
                     % (package, version, digest, wanted))
        rows.append("%s %s %s\n" % (package, version_of(package, archive), digest))
        unpack(package, archive, digest)
    if update:
        with open(LOCK, "w") as file:
            file.write("# package, version, SHA-256 of the archive; written by fetch.py --update\n")
            file.writelines(rows)


if __name__ == "__main__":
    fetch("--update" in sys.argv[1:])
