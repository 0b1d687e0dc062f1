use spore_guest::prelude::*;

struct Account(u64);

impl Account {
    #[callable]
    pub fn balance(&self) -> u64 {
        self.0
    }
}

fn main() {
    Account(1).balance();
}
