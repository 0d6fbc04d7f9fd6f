/* Filters as the real libseccomp makes them, and calls under filters as the real kernel judges them.
 *
 * Reads lines, answers in lines:
 *   init ACTION                            begins a filter; numbers are hexadecimal throughout
 *   arch TOKEN                             adds an architecture
 *   optimize LEVEL                         2 makes a binary tree of the calls
 *   rule ACTION NAME COUNT {ARG OP A B}    adds a rule; OP is the number of an scmp_compare
 *   export                                 -> "ok PROGRAM", "refused ERRNO", or "endless"
 *   resolve TOKEN NAME                     -> the number of a call, or a negative one
 *   load PROGRAM                           the filter of the calls that follow
 *   call ENTRY NR ARG0 .. ARG5             -> "returned N", "trapped" or "killed"; ENTRY is 64 or 32
 * Everything that may not come back runs in a child with a limit of processor time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_RULES = 512, MAX_PROGRAM = 4096, MAX_ARCHES = 8 };

struct rule {
	uint32_t action;
	char name[64];
	unsigned count;
	struct scmp_arg_cmp args[6];
};

static uint32_t default_action;
static uint32_t arches[MAX_ARCHES];
static unsigned arch_count;
static unsigned optimize;
static struct rule rules[MAX_RULES];
static unsigned rule_count;
static struct sock_filter program[MAX_PROGRAM];
static unsigned short program_length;

/* What a child leaves behind without making a system call. */
static volatile struct result {
	int state; /* 0: nothing, 1: a value, 2: SIGSYS */
	long value;
	unsigned length;
	unsigned char bytes[sizeof(program)];
} *result;

static void fail(const char *what)
{
	fprintf(stderr, "filters: %s\n", what);
	exit(2);
}

/* Runs `work` in a child; returns how that ended. */
static int in_child(void (*work)(const void *), const void *argument)
{
	result->state = 0;
	pid_t child = fork();
	if (child < 0)
		fail("cannot fork");
	if (child == 0) {
		struct itimerval limit = { .it_value = { .tv_usec = 300000 } };
		setitimer(ITIMER_PROF, &limit, NULL);
		work(argument);
		__builtin_trap();
	}
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			fail("cannot wait");
	return status;
}

static void leave(int state, long value)
{
	result->value = value;
	result->state = state;
}

static void export_filter(const void *unused)
{
	(void)unused;
	scmp_filter_ctx filter = seccomp_init(default_action);
	int error = filter ? 0 : -ENOMEM;
	for (unsigned i = 0; i < arch_count && !error; i++) {
		error = seccomp_arch_add(filter, arches[i]);
		if (error == -EEXIST)
			error = 0;
	}
	if (!error && optimize)
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, optimize);
	for (unsigned i = 0; i < rule_count && !error; i++) {
		int nr = seccomp_syscall_resolve_name(rules[i].name);
		if (nr == __NR_SCMP_ERROR)
			continue;
		error = seccomp_rule_add_array(filter, rules[i].action, nr, rules[i].count, rules[i].args);
	}
	FILE *file = tmpfile();
	if (!error && !file)
		error = -EIO;
	if (!error)
		error = seccomp_export_bpf(filter, fileno(file));
	if (error) {
		leave(2, -error);
		return;
	}
	rewind(file);
	result->length = fread((void *)result->bytes, 1, sizeof(result->bytes), file);
	leave(1, 0);
}

static void print_export(void)
{
	int status = in_child(export_filter, NULL);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF) {
		puts("endless");
	} else if (result->state == 1) {
		fputs("ok ", stdout);
		for (unsigned i = 0; i < result->length; i++)
			printf("%02x", result->bytes[i]);
		putchar('\n');
	} else if (result->state == 2) {
		printf("refused %ld\n", result->value);
	} else {
		fail("libseccomp crashed");
	}
}

static void trapped(int number)
{
	(void)number;
	leave(2, 0);
	__builtin_trap();
}

struct call {
	unsigned entry;
	uint32_t nr;
	uint64_t args[6];
};

#ifdef __x86_64__
static long entry_32(const struct call *call)
{
	long value = (int32_t)call->nr;
	register uint64_t fourth asm("rsi") = call->args[3];
	register uint64_t fifth asm("rdi") = call->args[4];
	/* The compiler may keep rbx and rbp for itself; what comes back from int 0x80 in r8 and r9 is nothing of ours. */
	register uint64_t first asm("r8") = call->args[0];
	register uint64_t sixth asm("r9") = call->args[5];
	asm volatile("push %%rbx\n push %%rbp\n mov %%r8, %%rbx\n mov %%r9, %%rbp\n int $0x80\n pop %%rbp\n pop %%rbx"
		     : "+a"(value), "+r"(first), "+r"(sixth)
		     : "c"(call->args[1]), "d"(call->args[2]), "r"(fourth), "r"(fifth)
		     : "memory", "cc", "r10", "r11");
	return value;
}
#else
static long entry_32(const struct call *call)
{
	(void)call;
	return -ENOSYS;
}
#endif

static void make_call(const void *argument)
{
	const struct call *call = argument;
	struct rlimit none = { 0, 0 };
	setrlimit(RLIMIT_CORE, &none);
	signal(SIGSYS, trapped);
	struct sock_fprog filter = { program_length, program };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter)) {
		leave(3, errno);
		return;
	}
	const uint64_t *a = call->args;
	long value;
	if (call->entry == 0x32) {
		value = entry_32(call);
	} else {
		value = syscall((int32_t)call->nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		if (value == -1)
			value = -errno;
	}
	leave(1, value);
}

static void print_call(const char *line)
{
	struct call call;
	uint64_t *a = call.args;
	if (sscanf(line, "%x %x %lx %lx %lx %lx %lx %lx", &call.entry, &call.nr, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5]) != 8)
		fail("bad call");
	int status = in_child(make_call, &call);
	if (result->state == 1)
		printf("returned %ld\n", result->value);
	else if (result->state == 2)
		puts("trapped");
	else if (result->state == 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		puts("killed");
	else
		fail(result->state == 3 ? "the kernel refuses the filter" : "a call ended in an unexpected way");
}

static void add_rule(char *line)
{
	if (rule_count == MAX_RULES)
		fail("too many rules");
	struct rule *rule = &rules[rule_count++];
	int at;
	if (sscanf(line, "%x %63s %u%n", &rule->action, rule->name, &rule->count, &at) != 3 || rule->count > 6)
		fail("bad rule");
	for (unsigned i = 0; i < rule->count; i++) {
		unsigned index, operator;
		uint64_t a, b;
		int length;
		line += at;
		if (sscanf(line, "%u %u %lx %lx%n", &index, &operator, &a, &b, &length) != 4)
			fail("bad condition");
		at = length;
		rule->args[i] = (struct scmp_arg_cmp){ index, operator, a, b };
	}
}

static void load(const char *text)
{
	unsigned char *bytes = (unsigned char *)program;
	unsigned length = 0;
	while (length < sizeof(program) && sscanf(text + 2 * length, "%2hhx", &bytes[length]) == 1)
		length++;
	program_length = length / sizeof(*program);
}

int main(void)
{
	static char line[2 * sizeof(program) + 64];
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result == MAP_FAILED)
		fail("no memory");
	while (fgets(line, sizeof(line), stdin)) {
		uint32_t token;
		char name[64];
		fflush(stdout);
		if (sscanf(line, "init %x", &default_action) == 1)
			arch_count = rule_count = optimize = 0;
		else if (sscanf(line, "optimize %u", &optimize) == 1)
			continue;
		else if (sscanf(line, "arch %x", &token) == 1 && arch_count < MAX_ARCHES)
			arches[arch_count++] = token;
		else if (!strncmp(line, "rule ", 5))
			add_rule(line + 5);
		else if (!strncmp(line, "export", 6))
			print_export();
		else if (sscanf(line, "resolve %x %63s", &token, name) == 2)
			printf("%d\n", seccomp_syscall_resolve_name_arch(token, name));
		else if (!strncmp(line, "load ", 5))
			load(line + 5);
		else if (!strncmp(line, "call ", 5))
			print_call(line + 5);
		else
			fail("unknown line");
	}
	return 0;
}
