#include "http/later.h"

#include <pthread.h>
#include <stdlib.h>

struct item {
	void (*run)(void *context);
	void *context;
};

struct ol_later {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct item items[OL_LATER_MAX]; /* a ring */
	size_t first, count;
	bool closing;
};

static void *work(void *context)
{
	struct ol_later *later = context;
	pthread_mutex_lock(&later->lock);
	for (;;) {
		while (later->count == 0 && !later->closing)
			pthread_cond_wait(&later->wake, &later->lock);
		if (later->count == 0)
			break;
		const struct item item = later->items[later->first];
		later->first = (later->first + 1) % OL_LATER_MAX;
		later->count--;
		pthread_mutex_unlock(&later->lock);
		item.run(item.context);
		pthread_mutex_lock(&later->lock);
	}
	pthread_mutex_unlock(&later->lock);
	return NULL;
}

enum ol_status ol_later_open(struct ol_later **later_out, struct ol_error *err)
{
	struct ol_later *later = calloc(1, sizeof *later);
	if (!later)
		return ol_fail(err, OL_ERR_FULL, "out of memory for a thread's work");
	pthread_mutex_init(&later->lock, NULL);
	pthread_cond_init(&later->wake, NULL);
	if (pthread_create(&later->thread, NULL, work, later) != 0) {
		pthread_mutex_destroy(&later->lock);
		pthread_cond_destroy(&later->wake);
		free(later);
		return ol_fail(err, OL_ERR_FULL, "cannot start a thread");
	}
	*later_out = later;
	return OL_OK;
}

void ol_later_close(struct ol_later *later)
{
	if (!later)
		return;
	pthread_mutex_lock(&later->lock);
	later->closing = true;
	pthread_cond_signal(&later->wake);
	pthread_mutex_unlock(&later->lock);
	pthread_join(later->thread, NULL);
	pthread_mutex_destroy(&later->lock);
	pthread_cond_destroy(&later->wake);
	free(later);
}

bool ol_later_push(struct ol_later *later, void (*run)(void *context), void *context)
{
	pthread_mutex_lock(&later->lock);
	const bool room = later->count < OL_LATER_MAX && !later->closing;
	if (room) {
		later->items[(later->first + later->count++) % OL_LATER_MAX] =
			(struct item){run, context};
		pthread_cond_signal(&later->wake);
	}
	pthread_mutex_unlock(&later->lock);
	return room;
}

/* ---- Routes ---- */

struct handover {
	const struct ol_later_route *route;
	struct ol_http_request *request;
};

static void run_route(void *context)
{
	const struct handover *h = context; /* of the request: gone with its answer */
	h->route->handle(h->route->self, h->request);
}

bool ol_later_hand_over(const struct ol_later_route *route, struct ol_http_request *request)
{
	struct handover *h = ol_http_alloc(request, sizeof *h);
	if (h)
		*h = (struct handover){route, request};
	return h && ol_later_push(route->later, run_route, h);
}

void ol_later_refuse(struct ol_http_request *request)
{
	ol_http_error_later(request, 503, 2, NULL, "overloaded",
			    "Too many requests of this kind wait: try again.");
}

void ol_later_handle(void *self, struct ol_http_request *request)
{
	if (!ol_later_hand_over(self, request))
		ol_later_refuse(request);
}
