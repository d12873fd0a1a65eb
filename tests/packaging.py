#!/usr/bin/env python3
"""What users get beside the program: installation, man pages, completions, the unit, the package.

    tests/packaging.py SOURCE-FOLDER BUILD-FOLDER

Installs into a temporary folder. Tools that are not there (zsh, fish, groff, systemd-analyze,
dpkg-deb) are named and their checks left out. Prints a line per failed check and "N passed,
N failed".
"""
import glob
import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tiny_model

SOURCE, BUILD = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
# How exposed systemd says the service is, of 10 (whole: 9.6).
EXPOSURE_MAX = 2.0
passed = failed = 0


def check(name, good, detail=""):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED: %s %s" % (name, detail))


def have(tool):
    there = shutil.which(tool) is not None
    if not there:
        print("%s is not here: its checks are left out" % tool)
    return there


def run(*args, **kw):
    return subprocess.run(args, capture_output=True, text=True, timeout=120, **kw)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def commands_of(program):
    """{words: [option]} of everything that --help tells of, and the names of the commands."""
    def help_of(*words):
        return run(program, *words, "--help").stdout
    names = re.findall(r"^  ([\w-]+) +\S", help_of().split("Commands:")[1], re.M)
    table = {}
    for name in names:
        text = help_of(name)
        options = re.findall(r"^  (?:-\w, |    )--([\w-]+)", text, re.M)
        if options or "Options:" in text:
            table[(name,)] = options
            continue
        for sub in re.findall(r"^  ([\w-]+) +\S", text, re.M):
            table[(name, sub)] = re.findall(r"^  (?:-\w, |    )--([\w-]+)", help_of(name, sub), re.M)
    return names, table


def check_man(root, names, table):
    for name in [""] + names:
        path = os.path.join(root, "share/man/man1/openledger%s.1" % ("-" + name if name else ""))
        check("man page of openledger " + name, os.path.exists(path))
        if not os.path.exists(path):
            continue
        text = read(path)
        for words, options in table.items():
            if words[0] == name:
                missing = [o for o in options
                           if "\\fB\\-\\-%s\\fR" % o.replace("-", "\\-") not in text]
                check("options in the man page of " + " ".join(words), not missing, missing)
        if GROFF:
            result = run("groff", "-man", "-ww", "-z", "-Tutf8", path)
            check("groff reads " + path, result.returncode == 0 and not result.stderr, result.stderr)


def complete_bash(path, *words):
    script = ("source %s; COMP_WORDS=(%s); COMP_CWORD=%d; _openledger; printf '%%s\\n' "
              "\"${COMPREPLY[@]}\"" % (path, " ".join("'%s'" % w for w in words), len(words) - 1))
    result = run("bash", "--norc", "-c", script)
    check("bash says nothing about %s" % (words,), not result.stderr, result.stderr)
    return result.stdout.split()


def check_completions(root, names, table):
    bash = os.path.join(root, "share/bash-completion/completions/openledger")
    check("bash completes commands",
          set(complete_bash(bash, "openledger", "")) == set(names) | {"--help", "--version"})
    check("bash completes the beginning of one",
          complete_bash(bash, "openledger", "toke") == ["tokenize"])
    for words, options in table.items():
        got = complete_bash(bash, "openledger", *words, "--")
        check("bash completes options of " + " ".join(words),
              set(got) == {"--" + o for o in options} | {"--help"}, got)
    families = {w[0] for w in table if len(w) == 2}
    for family in families:
        check("bash completes what comes after " + family,
              set(complete_bash(bash, "openledger", family, "")) ==
              {w[1] for w in table if w[0] == family} | {"--help"})
    zsh = os.path.join(root, "share/zsh/site-functions/_openledger")
    if have("zsh"):
        check("zsh reads its completions", run("zsh", "-n", zsh).returncode == 0)
    text = read(zsh)
    fish = os.path.join(root, "share/fish/vendor_completions.d/openledger.fish")
    for words, options in table.items():
        check("zsh knows the options of " + " ".join(words),
              all("'--%s[" % o in text for o in options) and "'%s')" % " ".join(words) in text)
    if not have("fish"):
        return
    check("fish reads its completions", run("fish", "-n", fish).returncode == 0)
    for words, options in table.items():
        line = "openledger %s --" % " ".join(words)
        home = tempfile.mkdtemp()
        result = run("fish", "--no-config", "-c", "source %s; complete -C '%s'" % (fish, line),
                     env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home})
        shutil.rmtree(home)
        got = {l.split("\t")[0] for l in result.stdout.split("\n")}
        check("fish completes options of " + " ".join(words),
              {"--" + o for o in options} <= got, {"--" + o for o in options} - got)


def check_unit(root, scratch):
    path = os.path.join(root, "lib/systemd/system/openledger.service")
    text = read(path)
    check("the unit starts the program that was installed",
          "ExecStart=%s/bin/openledger serve" % root in text and "@" not in
          re.sub(r"SystemCallFilter=.*|# With @resources.*", "", text))
    check("the program may install its own filter",
          text.index("SystemCallFilter=seccomp\n") > text.index("SystemCallFilter=~"))
    check("the user of the service", read(os.path.join(root, "lib/sysusers.d/openledger.conf"))
          .split("\n")[1].startswith("u openledger "))
    if not have("systemd-analyze"):
        return
    # Without the manual pages and the user, which are not on this machine.
    plain = os.path.join(scratch, "openledger.service")
    with open(plain, "w", encoding="utf-8") as file:
        file.write(re.sub(r"^Documentation=.*\n", "", text, flags=re.M))
    result = run("systemd-analyze", "verify", "--man=no", plain)
    lines = [l for l in result.stderr.split("\n") if "openledger.service" in l]
    check("systemd takes the unit", result.returncode == 0 and not lines, result.stderr)
    result = run("systemd-analyze", "security", "--offline=true", "--no-pager",
                 "--threshold=%d" % (EXPOSURE_MAX * 10), plain)
    level = re.search(r"exposure level for \S+: ([\d.]+)", result.stdout)
    if level:
        check("how exposed the service is", float(level.group(1)) <= EXPOSURE_MAX, level.group(0))
    else:
        print("systemd-analyze security says nothing here: %s" % result.stderr.strip())


def check_settings(program, scratch):
    """The settings that are shipped, as they are and with every option that they show."""
    text = read(os.path.join(SOURCE, "packaging/openledger.conf"))
    shown = re.findall(r"^#([\w-]+) = (.+)$", text, re.M)
    check("the settings show options", len(shown) >= 8)
    path = os.path.join(scratch, "openledger.conf")
    for name, content in (("as shipped", text),
                          ("with all", re.sub(r"^#([\w-]+ = )", r"\1", text, flags=re.M))):
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        result = run(program, "serve", "--config", path, "--check-config")
        check("the settings " + name, result.returncode == 0, result.stderr)
    for key, value in shown:
        check("the setting " + key, re.search(r"^%s = " % key, result.stdout, re.M), result.stdout)


def check_service(program, scratch):
    """As the service manager sees it: when it is ready, confined, alive, and how it stops."""
    home, manager = os.path.join(scratch, "home"), os.path.join(scratch, "notify")
    os.mkdir(home)
    tiny_model.write_model(os.path.join(scratch, "tiny"))
    environment = {**os.environ, "OPENLEDGER_HOME": home, "OPENLEDGER_THREADS": "1"}
    result = run(program, "import", os.path.join(scratch, "tiny"), "--name", "tiny",
                 env=environment)
    check("a model to serve", result.returncode == 0, result.stderr)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(manager)
    listener.settimeout(30)
    environment.update(NOTIFY_SOCKET=manager, WATCHDOG_USEC="600000")
    server = subprocess.Popen([program, "serve", "--port", "0"], env=environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = [listener.recv(1000), listener.recv(1000), listener.recv(1000)]
        check("ready, then alive", said == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"], said)
        filters = [re.search(r"^Seccomp:\s+(\d)", read(path), re.M).group(1)
                   for path in glob.glob("/proc/%d/task/*/status" % server.pid)]
        check("every thread is confined", len(filters) > 3 and set(filters) == {"2"}, filters)
        server.send_signal(signal.SIGTERM)
        error = server.communicate(timeout=30)[1]
        check("it stops in order", server.returncode == 0, error)
        check("it serves with its protection", "without" not in error, error)
        while said[-1] == b"WATCHDOG=1":
            said.append(listener.recv(1000))
        check("it says that it stops", said[-1] == b"STOPPING=1", said)
    except (OSError, subprocess.TimeoutExpired) as error:
        server.kill()
        check("the service manager hears of it", False, error)
    listener.close()


def check_package(scratch):
    if not have("dpkg-deb") or not have("dpkg-shlibdeps"):
        return
    environment = {**os.environ, "OL_BUILD": BUILD}
    packages = []
    for i in range(2):
        result = run(os.path.join(SOURCE, "scripts/deb"), os.path.join(scratch, "deb%d" % i),
                     env=environment)
        check("scripts/deb", result.returncode == 0, result.stderr)
        packages += glob.glob(os.path.join(scratch, "deb%d" % i, "*.deb"))
    if len(packages) != 2:
        return
    with open(packages[0], "rb") as a, open(packages[1], "rb") as b:
        check("the package is the same when made again", a.read() == b.read())
    root = os.path.join(scratch, "unpacked")
    check("dpkg-deb -x", run("dpkg-deb", "-x", packages[0], root).returncode == 0)
    check("dpkg-deb -e", run("dpkg-deb", "-e", packages[0], os.path.join(root, "DEBIAN"))
          .returncode == 0)
    control = read(os.path.join(root, "DEBIAN/control"))
    for library in ("libc6", "libsqlite3-0", "libsodium23"):
        check("the package depends on " + library, library in control)
    check("the packaged program runs",
          run(os.path.join(root, "usr/bin/openledger"), "--version").returncode == 0)
    unit = read(os.path.join(root, "usr/lib/systemd/system/openledger.service"))
    check("the packaged unit", "ExecStart=/usr/bin/openledger serve" in unit)
    for script in ("postinst", "prerm", "postrm"):
        check("sh reads " + script, run("sh", "-n", os.path.join(root, "DEBIAN", script))
              .returncode == 0)
    sums = run("md5sum", "--quiet", "-c", "DEBIAN/md5sums", cwd=root)
    check("md5sums", sums.returncode == 0, sums.stdout)
    check("the settings are a conffile",
          read(os.path.join(root, "DEBIAN/conffiles")) == "/etc/openledger/openledger.conf\n" and
          os.path.exists(os.path.join(root, "etc/openledger/openledger.conf")))
    with gzip.open(os.path.join(root, "usr/share/man/man1/openledger.1.gz")) as page:
        check("the packaged man page", b".SH NAME" in page.read())
    check("no path of this machine in the package", not [
        path for path in glob.glob(os.path.join(root, "**"), recursive=True)
        if os.path.isfile(path) and not path.endswith("/bin/openledger") and
        SOURCE.encode() in open(path, "rb").read()])


def main():
    global GROFF
    GROFF = have("groff")
    scratch = tempfile.mkdtemp()
    root = os.path.join(scratch, "installed")
    try:
        result = run("cmake", "--install", BUILD, "--prefix", root)
        check("cmake --install", result.returncode == 0, result.stderr)
        program = os.path.join(root, "bin/openledger")
        check("the installed program runs", run(program, "--version").returncode == 0)
        names, table = commands_of(program)
        check("commands and options are found", len(names) > 10 and len(table) > 10)
        check_man(root, names, table)
        check_completions(root, names, table)
        check_unit(root, scratch)
        check_settings(program, scratch)
        check_service(program, scratch)
        check_package(scratch)
    finally:
        shutil.rmtree(scratch)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
