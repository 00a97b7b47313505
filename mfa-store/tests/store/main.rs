//! The store on both databases.

#![cfg(test)]

mod addresses;
mod api_tokens;
mod audit;
mod console;
mod crash;
mod domain;
mod ends;
mod factors;
mod jobs;
mod once;
mod peers;
mod people;
mod rekey;
mod rotations;
mod secrets;
mod support;
