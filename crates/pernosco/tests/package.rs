//! `pernosco package-build`, `only-build` and `build`, and what is common to them.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use support::{PROGRAM, Recording, failure, stdout};

#[test]
fn a_self_contained_recording_is_not_touched() {
    let recording = Recording::new();
    let contents = recording.contents();
    let times = || fs::metadata(recording.trace()).map(|data| (data.mtime(), data.mtime_nsec()));
    let before = times().unwrap();
    let said = stdout(&recording.run(&["package-build"]));
    let expected =
        format!("{}: self-contained, with 2 mapped files\n", recording.trace().display());
    assert_eq!(said, expected);
    assert!(recording.contents() == contents && times().unwrap() == before);
}

#[test]
fn a_packaged_recording_needs_nothing_else() {
    let recording = Recording::with_program_elsewhere();
    let said = stdout(&recording.run(&["package-build"]));
    let program = recording.program_elsewhere();
    let copied = format!("{} -> mmap_pack_0_sum (18.5 KiB)\n", program.display());
    assert!(said.starts_with(&copied), "{said}");
    assert!(
        said.ends_with(": self-contained, 1 files copied (18.5 KiB), 1 were in it\n"),
        "{said}"
    );
    fs::remove_file(program).unwrap();
    assert!(!recording.file(PROGRAM).exists());
    let checked = stdout(&recording.run(&["replay", "--check"]));
    assert!(checked.contains(" 0 divergences"), "{checked}");
    let again = stdout(&recording.run(&["package-build"]));
    assert!(again.contains("self-contained, with 2 mapped files"), "{again}");
    let built = stdout(&recording.run(&["only-build"]));
    assert!(built.contains("in 1 segments (0 were there)"), "{built}");
}

#[test]
fn build_packages_and_builds() {
    let recording = Recording::with_program_elsewhere();
    let built = stdout(&recording.run(&["build", "--check-trace"]));
    let lines: Vec<&str> = built.lines().collect();
    assert!(lines[0].ends_with(" of memory, 0 problems"), "{built}");
    assert!(lines[1].contains(" -> mmap_pack_0_sum"), "{built}");
    assert!(lines[2].contains("1 files copied"), "{built}");
    assert!(lines[3].contains("in 1 segments (0 were there)"), "{built}");
    fs::remove_file(recording.program_elsewhere()).unwrap();
    let verified = stdout(&recording.run(&["db", "verify"]));
    assert!(verified.contains("0 differences"), "{verified}");
    let again = stdout(&recording.run(&["build"]));
    assert!(again.contains("in 1 segments (1 were there)"), "{again}");
}

#[test]
fn a_database_does_not_outlive_packaging_unnoticed() {
    let recording = Recording::with_program_elsewhere();
    stdout(&recording.run(&["only-build"]));
    let contents = recording.contents();
    for command in ["package-build", "build"] {
        let error = failure(&recording.run(&[command]));
        assert!(error.contains("pernosco.db was made before the recording is self"), "{error}");
        assert!(recording.contents() == contents, "{command}");
    }
    // It still fits.
    let again = stdout(&recording.run(&["only-build"]));
    assert!(again.contains("(1 were there)"), "{again}");
    // Whoever packages otherwise has another recording.
    let aside = recording.root().join("aside");
    fs::rename(recording.file("pernosco.db"), &aside).unwrap();
    stdout(&recording.run(&["package-build"]));
    fs::rename(aside, recording.file("pernosco.db")).unwrap();
    for arguments in [&["only-build"][..], &["db", "info"]] {
        let error = failure(&recording.run(arguments));
        assert!(error.contains("another recording"), "{error}");
    }
}

#[test]
fn what_is_not_as_recorded_is_not_packaged() {
    let recording = Recording::with_program_elsewhere();
    let program = recording.program_elsewhere();
    let bytes = fs::read(&program).unwrap();
    fs::write(&program, &bytes[1..]).unwrap();
    let contents = recording.contents();
    for command in ["package-build", "build"] {
        let error = failure(&recording.run(&[command]));
        assert!(error.contains("mapped file") && error.contains("/program: "), "{error}");
        assert!(error.contains("recorded with"), "{error}");
        assert!(recording.contents() == contents);
    }
    fs::remove_file(&program).unwrap();
    let error = failure(&recording.run(&["package-build"]));
    assert!(error.contains("mmap_copy_4_sum: No such file"), "{error}");
}

/// What `sum` executes is recorded besides, so this takes a larger recording.
#[test]
fn a_build_that_fails_says_which_files_have_changed() {
    let recording = Recording::of(&support::corpus("true"));
    let mut files = fs::read_dir(recording.trace()).unwrap().map(|entry| entry.unwrap().path());
    let is_libc = |path: &std::path::PathBuf| path.to_string_lossy().ends_with("libc.so.6");
    let library = files.find(is_libc).unwrap();
    let elsewhere = recording.root().join("library");
    let bytes = fs::read(&library).unwrap();
    fs::write(&elsewhere, &bytes[1..]).unwrap();
    fs::remove_file(&library).unwrap();
    std::os::unix::fs::symlink(elsewhere, library).unwrap();
    let error = failure(&recording.run(&["only-build"]));
    assert!(error.contains("/library: ") && error.contains("recorded with"), "{error}");
    assert!(error.contains("pernosco.db: divergence at event"), "{error}");
}

#[test]
fn names_of_files_are_no_commands_to_terminals() {
    let recording = Recording::with_program_elsewhere();
    let odd = recording.root().join("\u{1b}[2J odd");
    fs::rename(recording.program_elsewhere(), &odd).unwrap();
    fs::remove_file(recording.file(PROGRAM)).unwrap();
    std::os::unix::fs::symlink(&odd, recording.file(PROGRAM)).unwrap();
    let bytes = fs::read(&odd).unwrap();
    fs::write(&odd, &bytes[1..]).unwrap();
    let error = failure(&recording.run(&["package-build"]));
    assert!(error.contains("\\u{1b}[2J odd") && !error.contains('\u{1b}'), "{error}");
    fs::write(&odd, bytes).unwrap();
    let said = stdout(&recording.run(&["package-build"]));
    assert!(said.contains("\\u{1b}[2J odd -> mmap_pack_0_sum"), "{said}");
}

#[test]
fn packaging_that_fails_or_is_killed_changes_nothing() {
    let recording = Recording::with_program_elsewhere();
    let contents = recording.contents();
    // A file may have eight blocks of 512 bytes; the program has more.
    let full = recording.run_under("ulimit -f 8; trap '' XFSZ", &["package-build"]);
    let error = failure(&full);
    assert!(error.contains("mmap_pack_0_sum (make room and try again"), "{error}");
    assert!(recording.contents() == contents);
    let killed = recording.run_under("ulimit -f 8", &["package-build"]);
    assert_eq!(killed.status.code(), None, "{killed:?}");
    let left: Vec<_> = recording.contents().into_keys().collect();
    assert_eq!(left.len(), contents.len() + 2, "{left:?}");
    let checked = stdout(&recording.run(&["replay", "--check"]));
    assert!(checked.contains(" 0 divergences"), "{checked}");
    stdout(&recording.run(&["package-build"]));
    assert_eq!(recording.contents().len(), contents.len());
    fs::remove_file(recording.program_elsewhere()).unwrap();
    let checked = stdout(&recording.run(&["replay", "--check"]));
    assert!(checked.contains(" 0 divergences"), "{checked}");
}

#[test]
fn files_have_no_more_rights_than_the_umask_gives() {
    for (umask, program_mode, expected) in
        [("077", 0o755, 0o600), ("027", 0o755, 0o640), ("000", 0o755, 0o644), ("000", 0o500, 0o600)]
    {
        let recording = Recording::with_program_elsewhere();
        let mode = fs::Permissions::from_mode(program_mode);
        fs::set_permissions(recording.program_elsewhere(), mode).unwrap();
        stdout(&recording.run_under(&format!("umask {umask}"), &["build"]));
        let mask = u32::from_str_radix(umask, 8).unwrap();
        let mode = |path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(recording.file("mmap_pack_0_sum")), expected);
        assert_eq!(mode(recording.file("mmaps")) & mask, 0);
        let database = recording.file("pernosco.db");
        assert_eq!(mode(database.clone()), 0o775 & !mask);
        let files: Vec<_> = fs::read_dir(database).unwrap().map(Result::unwrap).collect();
        assert!(files.len() >= 3, "{files:?}");
        for file in files {
            assert_eq!(mode(file.path()), 0o664 & !mask, "{file:?}");
        }
    }
}

#[test]
fn a_recording_that_does_not_fit_together_is_not_built() {
    let recording = Recording::new();
    let data = recording.file("data");
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 1]).unwrap();
    fs::write(recording.file(PROGRAM), "another program").unwrap();
    for command in ["build", "only-build"] {
        let output = recording.run(&[command, "--check-trace"]);
        let error = failure(&output);
        assert!(error.contains("\n  ") && error.contains("data: truncated at"), "{error}");
        assert!(error.contains("mmap_copy_4_sum, which event"), "{error}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(" problems\n") && !said.contains(" 0 problems"), "{said}");
        assert!(!recording.file("pernosco.db").exists());
    }
}

#[test]
fn the_log_has_its_levels() {
    let recording = Recording::new();
    let log = recording.root().join("log");
    let to = |level: &str, separator: &str| format!("{level}{separator}{}", log.display());
    // Options about containers are worth a line of their own level, and no more.
    let compatible =
        ["build", "--no-pull", "--user", "1000", "-x", "--skip-rr", "--builder-rr-log", "all"];
    stdout(&recording.run(&compatible));
    stdout(&recording.run(&[&["--log", &to("warn", ":")], &compatible[..]].concat()));
    let lines = fs::read_to_string(&log).unwrap();
    let expected = "WARN: nothing has to be done for --no-pull, --user, -x\n\
                    WARN: nothing has to be done for --skip-rr, --builder-rr-log\n";
    assert_eq!(lines, expected);
    // It is appended to.
    stdout(&recording.run(&["only-build", "--log", &to("debug", "="), "--gcloud"]));
    let more = fs::read_to_string(&log).unwrap();
    assert!(more.starts_with(expected) && more.contains("WARN: nothing has to be done for --gc"));
    // An error is in the log and on stderr, in the same form.
    fs::remove_file(&log).unwrap();
    fs::remove_file(recording.file("version")).unwrap();
    let output = recording.run(&["build", "--log", &to("error", ":")]);
    assert_eq!(output.status.code(), Some(1));
    let line = fs::read_to_string(&log).unwrap();
    assert!(line.starts_with("ERROR: ") && line.contains("is not a recording"), "{line}");
    assert_eq!(line.lines().count(), 1);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), line);
    // But not twice.
    let output = recording.run(&["build", "--log", "error:/dev/stderr"]);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), line);
}

#[test]
fn a_log_that_cannot_be_is_an_error() {
    let recording = Recording::new();
    for (log, reason) in [
        ("build.log", "neither `:` nor `=` in it; give LEVEL:FILE"),
        ("all:build.log", "\"all\" is none of debug, info, warn and error"),
        ("debug:", "no file"),
        ("debug:/no/such/directory/log", "/no/such/directory/log: No such file"),
    ] {
        let error = failure(&recording.run(&["build", "--log", log]));
        assert!(error.contains(reason) && error.lines().count() == 1, "{error}");
    }
    assert!(!recording.file("pernosco.db").exists());
    let usage = recording.run(&["build", "--no-such-option"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_process_that_packs_keeps_others_from_it() {
    let recording = Recording::with_program_elsewhere();
    // As a process does that packs.
    let stream = fs::File::create(recording.file("mmaps.new")).unwrap();
    stream.lock().unwrap();
    let error = failure(&recording.run(&["package-build"]));
    assert!(error.contains("another process is packing this recording"), "{error}");
    drop(stream);
    stdout(&recording.run(&["package-build"]));
}
