//! The command line as people meet it: names, help, mistakes, and what is made from its definition.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::{DEAF, command, ferrocni, link, redirected, run};

#[test]
fn without_arguments_it_explains_itself() {
    let done = run(&mut ferrocni([""; 0]));
    let help = done.failed(2);
    assert!(help.contains("Usage:") && help.contains("install") && help.contains("ferrocni try"), "{help}");
    assert_eq!(done.stdout, "");
}

#[test]
fn every_command_has_help_with_an_example() {
    for verb in ["try", "add", "check", "del", "gc", "status", "install", "completions", "man"] {
        let done = run(&mut ferrocni([verb, "--help"]));
        assert!(done.ok().contains(&format!("\n  ferrocni {verb}")), "{verb}: {}", done.stdout);
    }
}

#[test]
fn a_mistyped_command_is_answered_with_the_nearest() {
    let done = run(&mut ferrocni(["intsall", "/tmp"]));
    assert!(done.failed(2).contains("install"), "{done:#?}");
}

#[test]
fn the_name_of_the_file_makes_it_a_plugin() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(command(link(dir.path(), "loopback")).env("CNI_COMMAND", "VERSION"));
    assert!(done.ok().contains(r#""supportedVersions":["0.1.0""#), "{done:#?}");
}

#[test]
fn a_runtime_that_calls_a_misspelt_plugin_gets_an_error_it_can_read() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(command(link(dir.path(), "loopbcak")).env("CNI_COMMAND", "ADD"));
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    let error: serde_json::Value = serde_json::from_str(&done.stdout).expect("one JSON document");
    assert_eq!(error["msg"], r#"no plugin "loopbcak" in this binary, so it cannot do ADD"#);
    assert!(error["details"].as_str().unwrap().ends_with(r#"did you mean "loopback"?"#), "{error}");
    assert_eq!((error["code"].as_u64(), error["cniVersion"].as_str()), (Some(999), Some("1.1.0")));
}

#[test]
fn a_person_who_calls_a_misspelt_plugin_is_told_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let done = run(&mut command(link(dir.path(), "loopbak")));
    assert!(done.failed(2).contains(r#"did you mean "loopback"?"#), "{done:#?}");
}

#[test]
fn a_command_in_the_environment_does_not_disturb_the_command_line() {
    let done = run(ferrocni(["list"]).env("CNI_COMMAND", "ADD"));
    assert!(done.ok().starts_with("PLUGIN"), "{done:#?}");
}

#[test]
fn plugins_are_listed_with_their_versions() {
    let done = run(&mut ferrocni(["list"]));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = done.ok().lines().map(words).collect();
    assert_eq!(lines[0], "PLUGIN VERSIONS WHAT IT DOES");
    assert_eq!(lines.len(), 1 + cni_plugins::PLUGINS.len());
    let loopback = "loopback 0.1.0 to 1.1.0 brings the loopback interface up inside the container";
    assert!(lines.iter().any(|line| line == loopback), "{lines:#?}");
    let done = run(&mut ferrocni(["list", "loopback", "--json"]));
    let plugins: serde_json::Value = serde_json::from_str(done.ok()).unwrap();
    assert_eq!(plugins[0]["name"], "loopback");
    assert_eq!(plugins[0]["versions"].as_array().unwrap().len(), 7);
}

#[test]
fn a_plugin_that_is_not_there_is_answered_with_the_nearest() {
    let done = run(&mut ferrocni(["list", "lopback"]));
    assert_eq!(
        done.failed(1),
        "error: no plugin \"lopback\" in this binary\n     help: did you mean \"loopback\"?\n"
    );
    assert!(run(&mut ferrocni(["list", "xyz"])).failed(1).contains("`ferrocni list` shows"));
}

#[test]
fn completions_are_scripts_that_their_shell_accepts() {
    for program in ["ferrocni", "cnitool"] {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let done = run(&mut ferrocni(["completions", shell, "--for", program]));
            assert!(done.ok().contains(program), "{shell}");
        }
        let script = run(&mut ferrocni(["completions", "bash", "--for", program])).stdout;
        let asked = format!(
            "{script}\n_{program}_probe() {{ COMP_WORDS=({program} st); COMP_CWORD=1; _{program} {program} st {program}; echo \"${{COMPREPLY[@]}}\"; }}; _{program}_probe"
        );
        let done = run(command("bash").args(["--norc", "-c", &asked]));
        assert_eq!(done.ok(), "status\n");
    }
}

#[test]
fn manual_pages_are_made_for_every_command() {
    let page = run(&mut ferrocni(["man"]));
    assert!(page.ok().contains(".TH ferrocni 1"), "{page:#?}");
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("man1");
    run(ferrocni(["man"]).arg(&target)).ok();
    let mut names: Vec<String> =
        fs::read_dir(target).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in ["cnitool.1", "cnitool-add.1", "ferrocni.1", "ferrocni-try.1", "ferrocni-install.1"] {
        assert!(names.iter().any(|n| n == name), "{name} is not among {names:?}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let done = run(&mut ferrocni(["man", "/proc/man"]));
    assert!(done.failed(1).starts_with("error: writing manual pages to /proc/man: "), "{done:#?}");
}

#[test]
fn what_nobody_receives_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let cnitool = link(dir.path(), "cnitool");
    for (to, said) in DEAF {
        for arguments in [
            &["list"][..],
            &["list", "--json"],
            &["man"],
            &["completions", "bash"],
            &["--help"],
            &["--version"],
        ] {
            let done = run(&mut redirected(&ferrocni(arguments), to));
            assert_eq!(
                done.failed(1),
                format!("error: writing to standard output: {said}\n"),
                "{arguments:?}"
            );
        }
        for arguments in [&[][..], &["--help"], &["completion", "bash"]] {
            let done = run(&mut redirected(command(&cnitool).args(arguments), to));
            assert_eq!(
                done.failed(1),
                format!("error: writing to standard output: {said}\n"),
                "{arguments:?}"
            );
        }
    }
}

#[test]
fn the_kernels_words_come_without_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    let below = format!("{file}/x");
    for (arguments, said) in [
        (&["man", &below][..], "not a directory"),
        (&["install", &below], "is not a folder"),
        (&["install", "/proc/self/fd/99/x"], "does not exist"),
        (&["install", "/proc/self"], "writing to /proc/self: "),
        (&["status", &below], "not a directory"),
        (&["status", "net", "--conf-dir", file], "not a directory"),
        (&["add", "/nonexistent/net.conf", "--netns", "/x"], "no such file or directory"),
    ] {
        let done = run(&mut ferrocni(arguments));
        let words = done.failed(1);
        assert!(words.contains(said) && !words.contains("os error"), "{arguments:?}: {words}");
    }
}

#[test]
fn a_reader_that_goes_away_is_an_error_and_no_panic() {
    let mut child = ferrocni(["man"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    // Which of the two is quicker is not known: the page may already be in the pipe.
    if done.status.code() != Some(0) {
        assert_eq!(
            (done.status.code(), said.as_str()),
            (Some(1), "error: writing to standard output: broken pipe\n")
        );
    }
    assert!(!said.contains("panicked"), "{said}");
}
