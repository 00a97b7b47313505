//! The program as it is run, the library as it is embedded, and mail as a server receives it.

#![cfg(test)]

mod command;
mod embedded;
mod mail;
mod master_key;
mod race;
