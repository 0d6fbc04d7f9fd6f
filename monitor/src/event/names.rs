//! Names of error numbers and signals, as far as Falco has names for them. Tabular.

/// Error numbers from 0 on: `include/uapi/asm-generic/errno.h`. Falco names none of 126 to 132.
#[rustfmt::skip]
const ERRORS: &[&str] = &[
    "", "EPERM", "ENOENT", "ESRCH", "EINTR", "EIO", "ENXIO", "E2BIG", "ENOEXEC", "EBADF", "ECHILD", "EAGAIN",
    "ENOMEM", "EACCES", "EFAULT", "ENOTBLK", "EBUSY", "EEXIST", "EXDEV", "ENODEV", "ENOTDIR", "EISDIR", "EINVAL",
    "ENFILE", "EMFILE", "ENOTTY", "ETXTBSY", "EFBIG", "ENOSPC", "ESPIPE", "EROFS", "EMLINK", "EPIPE", "EDOM",
    "ERANGE", "EDEADLK", "ENAMETOOLONG", "ENOLCK", "ENOSYS", "ENOTEMPTY", "ELOOP", "", "ENOMSG", "EIDRM", "ECHRNG",
    "EL2NSYNC", "EL3HLT", "EL3RST", "ELNRNG", "EUNATCH", "ENOCSI", "EL2HLT", "EBADE", "EBADR", "EXFULL", "ENOANO",
    "EBADRQC", "EBADSLT", "", "EBFONT", "ENOSTR", "ENODATA", "ETIME", "ENOSR", "ENONET", "ENOPKG", "EREMOTE",
    "ENOLINK", "EADV", "ESRMNT", "ECOMM", "EPROTO", "EMULTIHOP", "EDOTDOT", "EBADMSG", "EOVERFLOW", "ENOTUNIQ",
    "EBADFD", "EREMCHG", "ELIBACC", "ELIBBAD", "ELIBSCN", "ELIBMAX", "ELIBEXEC", "EILSEQ", "ERESTART", "ESTRPIPE",
    "EUSERS", "ENOTSOCK", "EDESTADDRREQ", "EMSGSIZE", "EPROTOTYPE", "ENOPROTOOPT", "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT", "EOPNOTSUPP", "EPFNOSUPPORT", "EAFNOSUPPORT", "EADDRINUSE", "EADDRNOTAVAIL", "ENETDOWN",
    "ENETUNREACH", "ENETRESET", "ECONNABORTED", "ECONNRESET", "ENOBUFS", "EISCONN", "ENOTCONN", "ESHUTDOWN",
    "ETOOMANYREFS", "ETIMEDOUT", "ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH", "EALREADY", "EINPROGRESS", "ESTALE",
    "EUCLEAN", "ENOTNAM", "ENAVAIL", "EISNAM", "EREMOTEIO", "EDQUOT", "ENOMEDIUM", "EMEDIUMTYPE", "ECANCELED",
];

/// The first of the numbers that the kernel keeps to itself: `include/linux/errno.h`.
const FIRST_INTERNAL_ERROR: u64 = 512;

#[rustfmt::skip]
const INTERNAL_ERRORS: &[&str] = &[
    "ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ENOIOCTLCMD", "ERESTART_RESTARTBLOCK", "", "", "", "",
    "EBADHANDLE", "ENOTSYNC", "EBADCOOKIE", "ENOTSUPP", "ETOOSMALL", "ESERVERFAULT", "EBADTYPE", "EJUKEBOX",
    "EIOCBQUEUED", "EIOCBRETRY",
];

/// Signals from 0 on: `include/uapi/asm-generic/signal.h`.
#[rustfmt::skip]
const SIGNALS: &[&str] = &[
    "", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
    "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
    "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
    "SIGSYS",
];

/// The name of the error that a call returned, a number below 0.
pub fn error(returned: i64) -> Option<&'static str> {
    let number = returned.checked_neg().and_then(|number| u64::try_from(number).ok())?;
    let name = match number.checked_sub(FIRST_INTERNAL_ERROR) {
        Some(internal) => INTERNAL_ERRORS.get(usize::try_from(internal).ok()?)?,
        None => ERRORS.get(usize::try_from(number).ok()?)?,
    };
    (!name.is_empty()).then_some(name)
}

/// The name of a signal.
pub fn signal(number: u8) -> Option<&'static str> {
    SIGNALS.get(usize::from(number)).copied().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_that_falco_gives_them() {
        for (returned, name) in
            [(-1, "EPERM"), (-11, "EAGAIN"), (-35, "EDEADLK"), (-95, "EOPNOTSUPP"), (-115, "EINPROGRESS")]
        {
            assert_eq!(error(returned), Some(name));
        }
        assert_eq!(
            (error(-125), error(-512), error(-530)),
            (Some("ECANCELED"), Some("ERESTARTSYS"), Some("EIOCBRETRY"))
        );
        for returned in [0, 1, -126, -300, -517, -4095, i64::MIN] {
            assert_eq!(error(returned), None, "{returned}");
        }
        assert_eq!((signal(9), signal(31), signal(23)), (Some("SIGKILL"), Some("SIGSYS"), Some("SIGURG")));
        assert!([0, 32, 255].iter().all(|number| signal(*number).is_none()));
    }
}
