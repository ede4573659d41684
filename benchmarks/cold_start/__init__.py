"""From a process's start to its first answer: each function as it is built, against a bare and a naive one."""
