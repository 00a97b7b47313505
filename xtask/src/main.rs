//! The workspace's chores: demo, test, bench, vm.

fn main() {}
