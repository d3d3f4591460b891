//! What a build meets that cannot go well: full disks, directories that cannot be written to,
//! recordings that change, databases that are damaged or were put there by somebody else.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Recording, failure, stdout};

/// Lets root, too, do only what the rights of files allow.
fn without_privileges() -> String {
    let id = Command::new("id").arg("-u").output().unwrap();
    match String::from_utf8(id.stdout).unwrap().trim() {
        "0" => r#"set -- setpriv --bounding-set=-all --inh-caps=-all "$@""#.into(),
        _ => String::new(),
    }
}

/// A recording of four segments.
fn long_recording() -> PathBuf {
    support::corpus("threads_chaos")
}

/// The build runs on a file system of its own, which is then made larger. Where nobody may mount
/// one, the disk is as good as full for the lock already.
#[test]
fn a_full_disk_ends_the_build_and_loses_nothing() {
    let mounts = [&["--mount"][..], &["--map-root-user", "--mount"]].into_iter().find(|options| {
        let mount = ["sh", "-c", "mount -t tmpfs tmpfs /tmp"];
        let output = Command::new("unshare").args(*options).args(mount).output();
        output.is_ok_and(|output| output.status.success())
    });
    let Some(options) = mounts else {
        let recording = Recording::new();
        fs::create_dir(recording.file("pernosco.db")).unwrap();
        let error = failure(&recording.run_under("ulimit -f 0; trap '' XFSZ", &["only-build"]));
        assert!(error.contains("/pernosco.db/") && error.contains("make room"), "{error}");
        stdout(&recording.run(&["only-build"]));
        return;
    };
    let script = r#"
        set -e
        pernosco=$1 recording=$2 disk=$3 copy=$4
        mount -t tmpfs -o size=64m tmpfs "$disk"
        for file in "$recording"/*; do [ -d "$file" ] || cp "$file" "$disk"; done
        used=$(du -k -s "$disk" | cut -f 1)
        more=0 failures=0
        while mount -o remount,size=$((used + more))k tmpfs "$disk"
            ! "$pernosco" only-build --shards $((1 + failures % 2)) "$disk"; do
            more=$((more + 16)) failures=$((failures + 1))
        done
        echo "$failures failures"
        "$pernosco" db verify --every 3 "$disk"
        cp -r "$disk/." "$copy"
    "#;
    let whole = Recording::of(&long_recording());
    stdout(&whole.run(&["only-build"]));
    let (disk, copy) = (tempfile::tempdir().unwrap(), Recording::empty());
    let output = Command::new("unshare")
        .args(options)
        .args(["sh", "-c", script, "sh", env!("CARGO_BIN_EXE_pernosco")])
        .args([&long_recording(), disk.path(), &copy.trace()])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}\n{errors}");
    for error in errors.lines() {
        assert!(error.contains("/pernosco.db/"), "{error}");
        let advice = error.contains("(make room and build again: what was sealed is kept)");
        assert!(advice || error.contains("/pernosco.db/work/"), "{error}");
        assert_eq!(error.matches("No space left").count(), 1, "{error}");
    }
    assert!(said.contains(&format!("{} failures\n", errors.lines().count())), "{said}");
    assert!(errors.lines().count() > 3 && said.contains(" 0 differences"), "{said}");
    // At least the last failure left something that was not made again.
    assert!(!said.contains("(0 were there)"), "{said}");
    let (expected, found) = (whole.contents(), copy.contents());
    assert!(expected.keys().eq(found.keys()) && expected == found);
}

#[test]
fn a_directory_that_cannot_be_written_to_is_named() {
    let setup = without_privileges();
    let read_only = |path: &Path, yes: bool| {
        fs::set_permissions(path, fs::Permissions::from_mode(if yes { 0o555 } else { 0o755 }))
    };
    let recording = Recording::new();
    read_only(&recording.trace(), true).unwrap();
    // There is nothing to be packaged; the database is what cannot be made.
    let error = failure(&recording.run_under(&setup, &["build"]));
    let advice = "(copy the recording to where it can be written to): Permission denied";
    assert!(error.contains("trace/pernosco.db (copy") && error.contains(advice), "{error}");
    let said = stdout(&recording.run_under(&setup, &["package-build"]));
    assert!(said.contains("self-contained, with 2 mapped files"), "{said}");
    read_only(&recording.trace(), false).unwrap();
    stdout(&recording.run(&["build"]));
    // A complete one need not be written to.
    read_only(&recording.file("pernosco.db"), true).unwrap();
    read_only(&recording.trace(), true).unwrap();
    for arguments in [&["build"][..], &["db", "verify"], &["db", "info"]] {
        stdout(&recording.run_under(&setup, arguments));
    }
    read_only(&recording.trace(), false).unwrap();

    let recording = Recording::with_program_elsewhere();
    read_only(&recording.trace(), true).unwrap();
    for command in ["package-build", "build"] {
        let error = failure(&recording.run_under(&setup, &[command]));
        assert!(error.contains("trace/mmaps.new (copy") && error.contains(advice), "{error}");
    }
    read_only(&recording.trace(), false).unwrap();
}

#[test]
fn a_recording_that_changes_during_its_build_is_noticed() {
    // The build is stopped while it has its lock, which it takes before it begins to replay and
    // gives back at its end. It may be quicker than we are, but not for ever.
    for _ in 0..50 {
        let recording = Recording::new();
        let mut child = recording
            .command(&["only-build"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lock = recording.database("lock");
        while !lock.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the build ended without a lock");
            std::thread::yield_now();
        }
        let signal = |name: &str| {
            let id = child.id().to_string();
            assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
        };
        signal("-STOP");
        let tasks = recording.file("tasks");
        let mut bytes = fs::read(&tasks).unwrap();
        bytes.push(0);
        fs::write(&tasks, bytes).unwrap();
        signal("-CONT");
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            continue;
        }
        let error = failure(&output);
        assert!(error.contains("the recording was written to while"), "{error}");
        // Nothing goes on with that, or asks it.
        for arguments in [&["only-build"][..], &["db", "info"]] {
            let error = failure(&recording.run(arguments));
            assert!(error.contains("another recording"), "{error}");
        }
        return;
    }
    panic!("the build was always quicker");
}

#[test]
fn every_damage_is_found_and_named() {
    let recording = Recording::new();
    stdout(&recording.run(&["only-build"]));
    for name in ["manifest", "index", "volume-00000"] {
        let path = recording.database(name);
        let good = fs::read(&path).unwrap();
        let step = (good.len() / 16).max(1);
        let positions = (0..good.len()).step_by(step).chain([good.len() - 1]);
        let mut damaged: Vec<_> = positions
            .map(|position| {
                let mut bad = good.clone();
                bad[position] ^= 0x10;
                (format!("bit of byte {position}"), bad)
            })
            .collect();
        damaged.push(("shorter".into(), good[..good.len() - 1].to_vec()));
        damaged.push(("half".into(), good[..good.len() / 2].to_vec()));
        damaged.push(("empty".into(), vec![]));
        for (what, bad) in damaged {
            fs::write(&path, &bad).unwrap();
            let error = failure(&recording.run(&["db", "verify"]));
            assert!(error.contains(name), "{what} of {name}: {error}");
            assert!(fs::read(&path).unwrap() == bad, "to verify changes nothing");
        }
        fs::remove_file(&path).unwrap();
        let error = failure(&recording.run(&["db", "verify"]));
        let missing = error.contains(name) || error.contains("is not a database");
        assert!(missing, "{error}");
        fs::write(&path, good).unwrap();
    }
    stdout(&recording.run(&["db", "verify"]));
}

#[test]
fn a_build_does_not_go_on_with_what_it_cannot_read() {
    for name in ["manifest", "index", "volume-00000"] {
        for length in [0, 7] {
            let recording = Recording::new();
            stdout(&recording.run(&["only-build"]));
            let path = recording.database(name);
            let good = fs::read(&path).unwrap();
            fs::write(&path, &good[..length]).unwrap();
            let error = failure(&recording.run(&["only-build"]));
            assert!(error.contains(name), "{error}");
        }
    }
}

#[test]
fn nothing_is_written_through_links_in_a_recording() {
    for name in ["lock", "index", "volume-00000", "manifest.new"] {
        let recording = Recording::new();
        let victim = recording.root().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::create_dir(recording.file("pernosco.db")).unwrap();
        symlink(&victim, recording.database(name)).unwrap();
        let error = failure(&recording.run(&["only-build"]));
        assert!(error.contains("pernosco.db/"), "{error}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
    }
}

#[test]
fn pipes_in_the_place_of_files_keep_nobody_waiting() {
    for name in ["lock", "index", "volume-00000", "manifest"] {
        let recording = Recording::new();
        stdout(&recording.run(&["only-build"]));
        let path = recording.database(name);
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let output = recording.run(&["db", "verify"]);
        match name {
            // Nobody reads it.
            "lock" => drop(stdout(&output)),
            _ => assert!(failure(&output).contains(name), "{output:?}"),
        }
    }
    let recording = Recording::new();
    fs::create_dir(recording.file("pernosco.db")).unwrap();
    let pipe = recording.database("lock");
    assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    failure(&recording.run(&["only-build"]));
}
