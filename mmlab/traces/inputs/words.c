/* Counts the words of standard input: the file that the trace `gcc` compiles. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word { char *text; unsigned count; struct word *next; };

static struct word *bucket[4096];

static unsigned hash(const char *s)
{
	unsigned h = 2166136261u;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 16777619u;
	return h % 4096;
}

static void count(const char *s)
{
	struct word **at = &bucket[hash(s)];

	while (*at && strcmp((*at)->text, s))
		at = &(*at)->next;
	if (!*at) {
		*at = calloc(1, sizeof **at);
		(*at)->text = strdup(s);
	}
	(*at)->count++;
}

int main(void)
{
	char s[256];
	size_t n = 0;

	for (int c; (c = getchar()) != EOF;)
		if (isalpha(c) && n < sizeof s - 1) {
			s[n++] = tolower(c);
		} else if (n) {
			s[n] = 0;
			count(s);
			n = 0;
		}
	for (int i = 0; i < 4096; i++)
		for (struct word *w = bucket[i]; w; w = w->next)
			printf("%u %s\n", w->count, w->text);
	return 0;
}
