//! Help that teaches, and exit codes that scripts can rely on.

use crate::foretide::{printed, run};
use crate::ports;

/// Commands with what their help must mention.
const HELP: [(&str, &[&str]); 12] = [
    ("run", &["--config", "--log-format", "--log-level", "SIGHUP", "SIGTERM"]),
    ("demo", &["--duration", "--headless", "--report", "--json", "--seed", "--rate", "--listen", "--admin"]),
    ("init", &["[FILE]", "--full"]),
    ("validate", &["<FILE>", "--json"]),
    (
        "simulate",
        &[
            "[SCENARIO]",
            "--suite",
            "--requests",
            "--seed",
            "--show",
            "--report",
            "--json",
            "campaign",
            "unequal",
            "crash",
        ],
    ),
    ("producer", &["--port", "--speed", "--cold-start", "--seed"]),
    (
        "replay",
        &["<FILE>", "--target", "--speed", "--scale", "--peak-rate", "--rows", "--allow-remote", "--json"],
    ),
    ("backtest", &["cost"]),
    ("train", &["--from", "--target", "--config", "--out", "--json", "history"]),
    ("explain", &["--config", "--request", "--header", "--body", "--json"]),
    ("model", &["list", "show", "promote", "rollback"]),
    ("healthcheck", &["--admin", "--live"]),
];

/// The same for commands of commands.
const SUBCOMMAND_HELP: [(&[&str], &[&str]); 1] = [(
    &["backtest", "cost"],
    &[
        "--data",
        "--target",
        "--route",
        "--source",
        "--params",
        "--time",
        "--end",
        "--label-delay",
        "--report",
        "--json",
    ],
)];

#[test]
fn help_names_every_command_and_its_flags() {
    let folder = tempfile::tempdir().expect("a folder");
    let top = run(folder.path(), &["--help"]);
    assert!(top.status.success());
    for (command, flags) in HELP {
        assert!(
            printed(&top).contains(&format!("\n  {command} ")),
            "{command} is not in --help:\n{}",
            printed(&top)
        );
        let help = run(folder.path(), &[command, "--help"]);
        assert!(help.status.success(), "{command}: {}", printed(&help));
        for flag in flags {
            assert!(printed(&help).contains(flag), "{command} --help lacks {flag}:\n{}", printed(&help));
        }
    }
    for (command, flags) in SUBCOMMAND_HELP {
        let help = run(folder.path(), &[command, &["--help"]].concat());
        assert!(help.status.success(), "{command:?}: {}", printed(&help));
        for flag in flags {
            assert!(printed(&help).contains(flag), "{command:?} --help lacks {flag}:\n{}", printed(&help));
        }
    }
    let version = run(folder.path(), &["--version"]);
    assert!(printed(&version).starts_with("foretide "), "{}", printed(&version));
}

#[test]
fn wrong_arguments_end_with_two_and_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, word) in [
        (&["runn"][..], "'run'"),
        (&["demo", "--duration", "30"], "30s"),
        (&["producer", "--port", "70000"], "65535"),
        (&[], "Usage"),
    ] {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", printed(&output));
        assert!(printed(&output).contains(word), "{arguments:?} does not say {word}: {}", printed(&output));
    }
}

#[test]
fn healthcheck_of_nobody_fails_and_says_whom_it_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = format!("127.0.0.1:{}", ports::neighbours(1));
    for arguments in [&["healthcheck", "--admin", &admin][..], &["healthcheck", "--live", "--admin", &admin]]
    {
        let output = run(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
        assert!(printed(&output).contains(&admin), "{}", printed(&output));
    }
}
