<?php
/**
 * Plugin Name: fedtail
 * Description: Recommendations on product pages, and events to the service beside the shop.
 *
 * In wp-config.php, outside the web root if you can:
 *   define( 'FEDTAIL_SERVICE', 'http://127.0.0.1:8080' );
 *   define( 'FEDTAIL_KEY_FILE', '/etc/fedtail/key.txt' );
 *
 * Items are named by SKU and shoppers by e-mail address, as the import of WooCommerce's exports names
 * them. The key stays on the server. A call takes at most a second; if the service does not answer, the page
 * goes out without a list.
 */

declare( strict_types=1 );

defined( 'ABSPATH' ) || exit;

/** One call; null if no good answer came. No error is shown to a shopper. */
function fedtail_ask( string $path, array $body, float $timeout = 1.0 ): ?array {
	$key = trim( (string) file_get_contents( FEDTAIL_KEY_FILE ) );
	$answer = wp_remote_post(
		FEDTAIL_SERVICE . $path,
		array(
			'timeout'     => $timeout,
			'redirection' => 0,
			'headers'     => array(
				'Authorization' => 'Bearer ' . $key,
				'Content-Type'  => 'application/json',
			),
			'body'        => wp_json_encode( $body ),
		)
	);
	if ( is_wp_error( $answer ) || wp_remote_retrieve_response_code( $answer ) >= 300 ) {
		return null;
	}
	$found = json_decode( wp_remote_retrieve_body( $answer ), true );
	return is_array( $found ) ? $found : null;
}

/** A list's id, or null. */
function fedtail_list_id( $given ): ?string {
	return is_string( $given ) && preg_match( '/\A[0-9a-f]{32}\z/', $given ) ? $given : null;
}

/** An event as the service wants it; one that is made twice has the same id twice. */
function fedtail_event( string $id, string $type, string $sku, array $more = array() ): array {
	$event = array(
		'event_id' => $id,
		'type'     => $type,
		'item_id'  => $sku,
		'time'     => gmdate( 'Y-m-d\TH:i:s\Z' ),
	);
	return array_filter( $more, static fn( $value ) => null !== $value ) + $event;
}

/** The SKU of an order's line, "" where there is none. */
function fedtail_sku( $line ): string {
	$product = $line->get_product();
	return $product ? (string) $product->get_sku() : '';
}

/** Below a product: what goes with it. */
add_action(
	'woocommerce_after_single_product_summary',
	static function (): void {
		global $product;
		if ( ! $product instanceof WC_Product || '' === $product->get_sku() ) {
			return;
		}
		$path  = '/v1/items/' . rawurlencode( $product->get_sku() ) . '/similar';
		$found = fedtail_ask( $path, array( 'surface' => 'product_page', 'count' => 4 ) );
		if ( null === $found || empty( $found['items'] ) ) {
			return;
		}
		$list   = fedtail_list_id( $found['recommendation_id'] );
		$events = array();
		$rows   = '';
		foreach ( $found['items'] as $item ) {
			$other = wc_get_product( wc_get_product_id_by_sku( $item['item_id'] ) );
			if ( ! $other || ! $other->is_visible() ) {
				continue;
			}
			$link     = add_query_arg( 'fedtail_list', $list, $other->get_permalink() );
			$rows    .= '<li><a href="' . esc_url( $link ) . '">' . esc_html( $other->get_name() ) . '</a></li>';
			$events[] = fedtail_event( wp_generate_uuid4(), 'impression', $item['item_id'], array( 'recommendation_id' => $list ) );
		}
		if ( '' !== $rows ) {
			echo '<section class="fedtail"><h2>' . esc_html__( 'Goes with it', 'fedtail' ) . '</h2><ul>' . $rows . '</ul></section>'; // phpcs:ignore -- escaped above
			fedtail_ask( '/v1/events', array( 'events' => $events ) );
		}
	},
	15
);

/** Who came by a list clicked on it. */
add_action(
	'template_redirect',
	static function (): void {
		$list = fedtail_list_id( $_GET['fedtail_list'] ?? null ); // phpcs:ignore -- checked by its form
		$seen = is_product() ? wc_get_product( get_queried_object_id() ) : null;
		if ( null !== $list && $seen && '' !== $seen->get_sku() ) {
			$event = fedtail_event( wp_generate_uuid4(), 'click', $seen->get_sku(), array( 'recommendation_id' => $list ) );
			fedtail_ask( '/v1/events', array( 'events' => array( $event ) ) );
		}
	}
);

/** A paid order: one purchase a line. WooCommerce may call this twice; the event's id does not change. */
add_action(
	'woocommerce_payment_complete',
	static function ( int $order_id ): void {
		$order = wc_get_order( $order_id );
		if ( ! $order ) {
			return;
		}
		$events = array();
		foreach ( $order->get_items() as $line_id => $line ) {
			$sku = fedtail_sku( $line );
			if ( '' === $sku ) {
				continue;
			}
			$events[] = fedtail_event(
				"woocommerce-order-$order_id-$line_id",
				'purchase',
				$sku,
				array(
					'order_id'   => (string) $order_id,
					'shopper_id' => $order->get_billing_email() ?: null,
				)
			);
		}
		if ( $events ) {
			fedtail_ask( '/v1/events', array( 'events' => $events ), 5.0 );
		}
	}
);

/** A refund: one a line that was taken back. */
add_action(
	'woocommerce_order_refunded',
	static function ( int $order_id, int $refund_id ): void {
		$refund = wc_get_order( $refund_id );
		$events = array();
		foreach ( $refund ? $refund->get_items() : array() as $line_id => $line ) {
			$sku = fedtail_sku( $line );
			if ( '' !== $sku ) {
				$events[] = fedtail_event( "woocommerce-refund-$refund_id-$line_id", 'refund', $sku, array( 'order_id' => (string) $order_id ) );
			}
		}
		if ( $events ) {
			fedtail_ask( '/v1/events', array( 'events' => $events ), 5.0 );
		}
	},
	10,
	2
);
