//! Whole journeys through the public router, in process: a database in memory, a clock that stands
//! still until it is moved, and a gateway that does nothing but acknowledge.

#![cfg(test)]

mod api;
mod connect;
mod console;
mod enroll;
mod enumeration;
mod factors;
mod idle;
mod load;
mod pages;
mod renew;
mod rig;
mod rotate;
mod secrets;
mod status;
mod strangers;
