//! The `spore` command: arguments in, tables and JSON out.
//!
//! Each command is one file of [`commands`]. What every one of them needs stands beside it: how a
//! command ends and what is said then ([`exit`], [`refusal`]), what reaches a terminal and in which form
//! ([`output`]), arguments of more than one command ([`arguments`]), what someone meant who
//! typed them wrongly ([`hint`]), and connecting to a host ([`connect`]).
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod connect;
mod exit;
mod hint;
mod image;
mod items;
mod logging;
mod output;
mod refusal;
mod screen;
mod signals;
mod signature;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;

/// Ships callables with what they have captured, and runs them here or on other machines.
#[derive(Parser)]
#[command(name = "spore", version, after_help = exit::HELP, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
