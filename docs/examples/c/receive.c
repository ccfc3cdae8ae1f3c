/* receive USER: hears what is sent to a user, also what came while this device was away, and reads it. */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_connect(struct mosquitto *client, void *data, int code) {
    mosquitto_subscribe(client, NULL, "me/json/+/message", 1);
}

static void on_message(struct mosquitto *client, void *data, const struct mosquitto_message *message) {
    char chat[80], read[128], seq[24];
    unsigned long long number = 0;
    sscanf(message->topic, "me/json/%79[^/]", chat);
    printf("%s %.*s\n", chat, message->payloadlen, (char *)message->payload);
    fflush(stdout);
    /* Every entry begins with its number. A program would read the rest with a JSON library. */
    sscanf(message->payload, "{\"seq\":%llu", &number);
    snprintf(read, sizeof read, "chat/%s/read", chat);
    snprintf(seq, sizeof seq, "%llu", number);
    /* libmosquitto has acknowledged the message: the second tick. This makes it blue. */
    mosquitto_publish(client, NULL, read, strlen(seq), seq, 1, false);
}

int main(int argc, char **argv) {
    char id[80];
    if (argc < 2) return 2;
    snprintf(id, sizeof id, "%s-phone", argv[1]);
    mosquitto_lib_init();
    /* A session that stays: the broker remembers how far this device is. */
    struct mosquitto *client = mosquitto_new(id, false, NULL);
    mosquitto_username_pw_set(client, argv[1], NULL);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_message_callback_set(client, on_message);
    mosquitto_connect(client, "127.0.0.1", atoi(getenv("MQTT_PORT") ?: "1883"), 60);
    return mosquitto_loop_forever(client, -1, 1);
}
