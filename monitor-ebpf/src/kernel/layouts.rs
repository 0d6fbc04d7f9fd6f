//! Names every record layout in the object's type information, so that a test can compare it with the agent's.
//!
//! The compiler only describes types of globals; arrays of length 0 take no room.

/// One member per kind.
macro_rules! layouts {
    ($(($kind:ident, $layout:ident)),*) => {
        /// Layouts by kind.
        #[repr(C)]
        pub struct Layouts {
            /// A global without size would not be there.
            size: u64,
            $($kind: [monitor_ebpf::record::$layout; 0],)*
        }

        /// See the module.
        // SAFETY: nothing else in the object has this name.
        #[unsafe(no_mangle)]
        pub static LAYOUTS: Layouts = Layouts { size: 0, $($kind: [],)* };
    };
}

monitor_ebpf::for_each_record!(layouts);
